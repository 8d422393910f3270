// Written by `skillcore schemas build` from skillcore_streams/events. Do not edit.
//
// A record in Kafka: key = the value of the event's key field, value = JSON of the data, attributes as ce_* headers.

/** A UUID in lower case, as its key is compared byte by byte. */
export type Uuid = string;
/** A day of the school's calendar, 2025-10-06. */
export type CalendarDate = string;
/** RFC 3339 with an offset, 2025-10-06T14:05:00Z. */
export type Timestamp = string;
/** A time of the school's day, 08:15:00. */
export type LocalTime = string;
/** An exact decimal as a string, "8.50". Never a JSON number. */
export type Decimal = string;

/** What is done differently for the student, and where. */
export interface Accommodation {
  readonly code: string;
  /** Personal. */
  readonly description: string;
  readonly settings?: string | null;
}

/** A category of a grading scheme; the weights of a scheme add up to 100. */
export interface GradeCategory {
  readonly id: Uuid;
  readonly name: string;
  readonly weight: Decimal;
  readonly drop_lowest?: number;
  readonly drop_highest?: number;
  readonly never_drop?: readonly Uuid[];
}

/** No message between `start` and `end`, local times of the recipient's zone. */
export interface QuietHours {
  readonly start: LocalTime;
  readonly end: LocalTime;
  /** a zone of the IANA database */
  readonly tz: string;
}

/** Who may be alone with whom. */
export interface RoomPolicy {
  readonly student_dm: boolean;
  readonly staff_required: boolean;
}

/** A special education service and its weekly mandate. */
export interface Service {
  readonly type: string;
  readonly minutes_per_week: number;
}

/** What a synchronisation did with one kind of entity. */
export interface SyncCounts {
  readonly added: number;
  readonly updated: number;
  readonly deleted: number;
  readonly failed: number;
}

/** A role in an organisation (OneRoster 1.2). */
export interface UserRole {
  readonly role: "administrator" | "aide" | "counselor" | "districtAdministrator" | "guardian" | "parent" | "principal" | "proctor" | "relative" | "siteAdministrator" | "student" | "systemAdministrator" | "teacher";
  readonly org_id: Uuid;
  readonly primary: boolean;
}

/** A school year, semester, term or grading period, with its instructional days. */
export interface AcademicSessionCreated {
  readonly session_id: Uuid;
  readonly school_id: Uuid;
  readonly type: "schoolYear" | "semester" | "term" | "gradingPeriod";
  /** Personal. */
  readonly title: string;
  readonly start_date: CalendarDate;
  readonly end_date: CalendarDate;
  readonly parent_id?: Uuid | null;
  readonly instructional_days?: readonly CalendarDate[] | null;
}

/** Address changed (Ed-Fi Address, ResidencyStatus). */
export interface AddressChanged {
  readonly student_id: Uuid;
  readonly address_id: Uuid;
  /** Personal. */
  readonly line1: string;
  /** Personal. */
  readonly city: string;
  readonly state: string;
  /** Personal. */
  readonly postal_code: string;
  readonly valid_from: CalendarDate;
  readonly verified: boolean;
  readonly residency: "in_district" | "out_of_district" | "unknown";
}

/** Announcement published (Canvas discussion_topic_created(is_announcement)). */
export interface AnnouncementPublished {
  readonly announcement_id: Uuid;
  readonly author_id: Uuid;
  readonly scope: "district" | "school" | "class" | "group";
  readonly scope_id: Uuid;
  readonly roles: readonly ("administrator" | "aide" | "counselor" | "districtAdministrator" | "guardian" | "parent" | "principal" | "proctor" | "relative" | "siteAdministrator" | "student" | "systemAdministrator" | "teacher")[];
  /** Personal. */
  readonly title: string;
  /** Personal. */
  readonly body_ref: string;
  readonly publish_at: Timestamp;
  readonly expires_at?: Timestamp | null;
  readonly channels: readonly ("email" | "sms" | "push" | "in_app" | "voice")[];
}

/** Archive completed (Published by jobs). */
export interface ArchiveCompleted {
  readonly archive_id: Uuid;
  readonly entity: string;
  readonly cutoff_date: CalendarDate;
  readonly bucket: string;
  readonly storage_keys: readonly string[];
  readonly row_count: number;
  readonly sha256: string;
  readonly manifest_key: string;
  readonly verified: boolean;
}

/** Assignment created (Canvas assignment_created; OneRoster LineItem; Ed-Fi GradebookEntry). */
export interface AssignmentCreated {
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly category_id: Uuid;
  /** Personal. */
  readonly title: string;
  readonly points_possible: Decimal;
  readonly due_at?: Timestamp | null;
  readonly assigned_on: CalendarDate;
  readonly grading_type: "points" | "percent" | "letter" | "pass_fail" | "standards";
  readonly extra_credit: boolean;
  readonly omit_from_final: boolean;
  readonly published: boolean;
}

/** Assignment deleted. */
export interface AssignmentDeleted {
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly deleted_by: Uuid;
  readonly deleted_at: Timestamp;
}

/** Assignment missed (Published by daily schedule missing-assignment-sweep). */
export interface AssignmentMissed {
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly student_id: Uuid;
  readonly due_at: Timestamp;
  readonly policy: "zero" | "ignore" | "floor50";
}

/** Assignment submitted (Canvas submission_created; Ed-Fi SubmissionStatus, AssignmentLateStatus). */
export interface AssignmentSubmitted {
  readonly submission_id: Uuid;
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly student_id: Uuid;
  readonly attempt: number;
  readonly submitted_at: Timestamp;
  readonly late: boolean;
  readonly type: "text" | "upload" | "url" | "quiz";
}

/** Assignment updated (Canvas assignment_updated). */
export interface AssignmentUpdated {
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly version: number;
  readonly changed: readonly string[];
  readonly category_id?: Uuid | null;
  readonly points_possible?: Decimal | null;
  readonly due_at?: Timestamp | null;
  readonly published?: boolean | null;
}

/** A mark was wrong and has been replaced. */
export interface AttendanceCorrected {
  readonly student_id: Uuid;
  readonly attendance_id: Uuid;
  readonly school_id: Uuid;
  readonly date: CalendarDate;
  readonly old_code: string;
  readonly new_code: string;
  readonly new_category: "present" | "absent_excused" | "absent_unexcused" | "tardy" | "early_departure" | "partial";
  /** Personal. */
  readonly reason: string;
  readonly corrected_by: Uuid;
  readonly corrected_at: Timestamp;
}

/** Somebody was marked present, absent or late, for a day or for one class of it. */
export interface AttendanceMarked {
  readonly student_id: Uuid;
  readonly attendance_id: Uuid;
  readonly school_id: Uuid;
  readonly class_id?: Uuid | null;
  readonly period?: string | null;
  readonly date: CalendarDate;
  readonly code: string;
  readonly category: "present" | "absent_excused" | "absent_unexcused" | "tardy" | "early_departure" | "partial";
  readonly minutes_missed?: number | null;
  readonly arrival_time?: LocalTime | null;
  readonly marked_by: Uuid;
  readonly marked_at: Timestamp;
}

/** A student's absence rate reached 5, 10 or 20 % of the enrolled school days (EDFacts FS195). */
export interface AttendanceThresholdReached {
  readonly student_id: Uuid;
  readonly school_id: Uuid;
  readonly school_year: string;
  readonly threshold: "at_risk_5" | "chronic_10" | "severe_20";
  readonly days_enrolled: number;
  readonly days_absent: Decimal;
  readonly rate: Decimal;
  readonly as_of: CalendarDate;
}

/** Behavior incident reported (Ed-Fi DisciplineIncident / DisciplineAction (IEPPlacementMeetingIndicator)). */
export interface BehaviorIncidentReported {
  readonly student_id: Uuid;
  readonly incident_id: Uuid;
  readonly school_id: Uuid;
  readonly occurred_at: Timestamp;
  /** Personal. */
  readonly behavior: string;
  readonly severity: "minor" | "moderate" | "major";
  /** Personal. */
  readonly location?: string | null;
  readonly action?: "none" | "conference" | "iss" | "oss" | "expulsion" | null;
  readonly removal_days?: Decimal | null;
  readonly reported_by: Uuid;
}

/** Chat attachment uploaded (Canvas attachment_created). */
export interface ChatAttachmentUploaded {
  readonly room_id: Uuid;
  readonly attachment_id: Uuid;
  readonly message_id: Uuid;
  readonly uploader_id: Uuid;
  /** Personal. */
  readonly filename: string;
  readonly mime: string;
  readonly size: number;
  readonly sha256: string;
  readonly storage_key: string;
}

/** Chat member joined (Canvas group_membership_created). */
export interface ChatMemberJoined {
  readonly room_id: Uuid;
  readonly user_id: Uuid;
  readonly role: "administrator" | "aide" | "counselor" | "districtAdministrator" | "guardian" | "parent" | "principal" | "proctor" | "relative" | "siteAdministrator" | "student" | "systemAdministrator" | "teacher";
  readonly added_by: Uuid;
  readonly joined_at: Timestamp;
}

/** Chat member left. */
export interface ChatMemberLeft {
  readonly room_id: Uuid;
  readonly user_id: Uuid;
  readonly removed_by?: Uuid | null;
  readonly left_at: Timestamp;
  /** Personal. */
  readonly reason: "left" | "removed" | "withdrawn" | "deactivated";
}

/** Chat message deleted. */
export interface ChatMessageDeleted {
  readonly room_id: Uuid;
  readonly message_id: Uuid;
  readonly deleted_by: Uuid;
  readonly deleted_at: Timestamp;
  /** Personal. */
  readonly reason?: string | null;
}

/** Chat message edited. */
export interface ChatMessageEdited {
  readonly room_id: Uuid;
  readonly message_id: Uuid;
  readonly editor_id: Uuid;
  /** Personal. */
  readonly body_ref: string;
  readonly edit_no: number;
  readonly edited_at: Timestamp;
}

/** Chat message read. */
export interface ChatMessageRead {
  readonly room_id: Uuid;
  readonly reader_id: Uuid;
  readonly last_message_id: Uuid;
  readonly read_at: Timestamp;
}

/** Chat message reported. */
export interface ChatMessageReported {
  readonly room_id: Uuid;
  readonly report_id: Uuid;
  readonly message_id: Uuid;
  readonly reporter_id: Uuid;
  readonly category: "bullying" | "self_harm" | "sexual" | "threat" | "spam";
  /** Personal. */
  readonly note?: string | null;
}

/** Chat message sent. */
export interface ChatMessageSent {
  readonly room_id: Uuid;
  readonly message_id: Uuid;
  readonly sender_id: Uuid;
  readonly sender_role: "administrator" | "aide" | "counselor" | "districtAdministrator" | "guardian" | "parent" | "principal" | "proctor" | "relative" | "siteAdministrator" | "student" | "systemAdministrator" | "teacher";
  /** Personal. */
  readonly body_ref: string;
  readonly mentions?: readonly Uuid[] | null;
  readonly reply_to?: Uuid | null;
  readonly sent_at: Timestamp;
  readonly client_msg_id: string;
}

/** Chat reaction added. */
export interface ChatReactionAdded {
  readonly room_id: Uuid;
  readonly reaction_id: Uuid;
  readonly message_id: Uuid;
  readonly user_id: Uuid;
  readonly emoji: string;
  readonly added_at: Timestamp;
}

/** Chat room created (Canvas group_created). */
export interface ChatRoomCreated {
  readonly room_id: Uuid;
  readonly kind: "class" | "dm" | "group" | "staff";
  readonly class_id?: Uuid | null;
  readonly created_by: Uuid;
  readonly member_ids: readonly Uuid[];
  /** Personal. */
  readonly name?: string | null;
  readonly policy: RoomPolicy;
}

/** Class archived (Canvas course_completed). */
export interface ClassArchived {
  readonly class_id: Uuid;
  readonly school_id: Uuid;
  readonly school_year: string;
  readonly archived_at: Timestamp;
  readonly archived_by: Uuid;
}

/** Class created (OneRoster Class; Canvas course_section_created). */
export interface ClassCreated {
  readonly class_id: Uuid;
  readonly sourced_id: string;
  readonly course_id: Uuid;
  readonly school_id: Uuid;
  readonly term_ids: readonly Uuid[];
  /** Personal. */
  readonly title: string;
  readonly class_type: "homeroom" | "scheduled";
  readonly periods: readonly string[];
  readonly grades: readonly string[];
  readonly teacher_ids: readonly Uuid[];
}

/** Class grade changed (Canvas course_grade_change (current/final, old_*)). */
export interface ClassGradeChanged {
  readonly class_id: Uuid;
  readonly student_id: Uuid;
  readonly grading_period_id: Uuid;
  /** Personal. */
  readonly current_score?: Decimal | null;
  /** Personal. */
  readonly old_current_score?: Decimal | null;
  /** Personal. */
  readonly final_score?: Decimal | null;
  /** Personal. */
  readonly letter?: string | null;
  /** Personal. */
  readonly old_letter?: string | null;
  readonly calc_version: number;
}

/** Class updated (Canvas course_section_updated). */
export interface ClassUpdated {
  readonly class_id: Uuid;
  readonly version: number;
  readonly changed: readonly string[];
  /** Personal. */
  readonly title?: string | null;
  readonly periods?: readonly string[] | null;
  readonly term_ids?: readonly Uuid[] | null;
  readonly grading_template_id?: Uuid | null;
}

/** Compliance deadline missed (Published by daily schedule compliance-sweep). */
export interface ComplianceDeadlineMissed {
  readonly deadline_id: Uuid;
  readonly student_id: Uuid;
  readonly kind: "annual_review" | "triennial" | "initial_eval" | "504_review" | "el_notice" | "manifestation" | "records_request";
  readonly due_date: CalendarDate;
  readonly days_overdue: number;
  readonly owner_id: Uuid;
}

/** Conference scheduled. */
export interface ConferenceScheduled {
  readonly conference_id: Uuid;
  readonly student_id: Uuid;
  readonly organizer_id: Uuid;
  readonly attendee_ids: readonly Uuid[];
  readonly starts_at: Timestamp;
  readonly ends_at: Timestamp;
  /** Personal. */
  readonly location?: string | null;
  readonly interpreter_language?: string | null;
  readonly kind: "parent_teacher" | "iep" | "504" | "sst";
}

/** Consent recorded (34 CFR 99). */
export interface ConsentRecorded {
  readonly consent_id: Uuid;
  readonly student_id: Uuid;
  readonly guardian_id?: Uuid | null;
  readonly scope: "directory_info" | "media" | "third_party" | "medicaid" | "sms";
  readonly decision: "granted" | "revoked";
  readonly effective_at: Timestamp;
  readonly expires_at?: Timestamp | null;
  /** Personal. */
  readonly evidence_ref: string;
}

/** Demographics updated (OneRoster Demographics; Ed-Fi StudentEducationOrganizationAssociation). */
export interface DemographicsUpdated {
  readonly student_id: Uuid;
  readonly version: number;
  readonly changed: readonly string[];
  /** Personal. */
  readonly birth_date?: CalendarDate | null;
  /** Personal. */
  readonly sex?: "female" | "male" | "unspecified" | null;
  /** Personal. */
  readonly race?: { readonly [name: string]: boolean } | null;
  /** Personal. */
  readonly hispanic_latino?: boolean | null;
  /** Personal. */
  readonly country_of_birth?: string | null;
  readonly effective_date: CalendarDate;
}

/** Email bounced (SendGrid bounce/dropped/spamreport). */
export interface EmailBounced {
  readonly notification_id: Uuid;
  readonly delivery_id: Uuid;
  readonly recipient_id: Uuid;
  readonly channel: "email" | "sms" | "push" | "in_app" | "voice";
  readonly provider: string;
  readonly provider_message_id: string;
  readonly template?: string | null;
  readonly bounce_class: "hard" | "soft" | "blocked" | "dropped" | "spamreport";
  /** Personal. */
  readonly reason: string;
  readonly bounced_at: Timestamp;
}

/** Email sent (SendGrid `processed`). */
export interface EmailSent {
  readonly notification_id: Uuid;
  readonly delivery_id: Uuid;
  readonly recipient_id: Uuid;
  readonly channel: "email" | "sms" | "push" | "in_app" | "voice";
  readonly provider: string;
  readonly provider_message_id: string;
  readonly template?: string | null;
  /** Personal. */
  readonly to_hash: string;
  readonly sent_at: Timestamp;
  readonly subject_key?: string | null;
}

/** Emergency alert issued. */
export interface EmergencyAlertIssued {
  readonly alert_id: Uuid;
  readonly school_ids: readonly Uuid[];
  readonly kind: "lockdown" | "evacuate" | "weather" | "medical" | "test";
  /** Personal. */
  readonly message: string;
  readonly issued_by: Uuid;
  readonly issued_at: Timestamp;
  readonly ack_required: boolean;
}

/** English learner status changed (Ed-Fi LimitedEnglishProficiencyDescriptor, LanguageUse). */
export interface EnglishLearnerStatusChanged {
  readonly student_id: Uuid;
  readonly old_status: "non_el" | "el" | "reclassified" | "monitored";
  readonly new_status: "non_el" | "el" | "reclassified" | "monitored";
  /** Personal. */
  readonly proficiency_level?: Decimal | null;
  /** Personal. */
  readonly assessment?: string | null;
  /** Personal. BCP 47 */
  readonly home_language: string;
  readonly effective_date: CalendarDate;
}

/** Final grade posted (Ed-Fi Grade (GradeType, LetterGradeEarned, NumericGradeEarned), GradePointAverageType). */
export interface FinalGradePosted {
  readonly final_grade_id: Uuid;
  readonly class_id: Uuid;
  readonly student_id: Uuid;
  readonly grading_period_id: Uuid;
  readonly course_code: string;
  /** Personal. */
  readonly letter: string;
  /** Personal. */
  readonly percent: Decimal;
  readonly credits_attempted: Decimal;
  readonly credits_earned: Decimal;
  readonly weighting: "regular" | "honors" | "ap_ib";
  readonly posted_by: Uuid;
  readonly posted_at: Timestamp;
}

/** Grade category weights changed (OneRoster Category; Canvas assignment_group_updated). */
export interface GradeCategoryWeightsChanged {
  readonly class_id: Uuid;
  readonly scheme_version: number;
  readonly categories: readonly GradeCategory[];
  readonly effective_from: CalendarDate;
  readonly changed_by: Uuid;
}

/** Grade updated (Canvas grade_change (score, old_score, points_possible, grader_id, grading_complete, muted); OneRoster Result). */
export interface GradeUpdated {
  readonly grade_id: Uuid;
  readonly submission_id?: Uuid | null;
  readonly assignment_id: Uuid;
  readonly class_id: Uuid;
  readonly student_id: Uuid;
  /** Personal. */
  readonly score?: Decimal | null;
  /** Personal. */
  readonly old_score?: Decimal | null;
  readonly points_possible: Decimal;
  readonly old_points_possible?: Decimal | null;
  /** Personal. */
  readonly letter?: string | null;
  readonly excused: boolean;
  readonly missing: boolean;
  readonly late: boolean;
  readonly posted: boolean;
  readonly grader_id?: Uuid | null;
  /** Personal. */
  readonly reason?: string | null;
  readonly graded_at: Timestamp;
}

/** Grading period closed (OneRoster academicSession type=gradingPeriod). */
export interface GradingPeriodClosed {
  readonly grading_period_id: Uuid;
  readonly school_id: Uuid;
  readonly school_year: string;
  readonly closed_by: Uuid;
  readonly closed_at: Timestamp;
}

/** Guardian contact updated (Ed-Fi Contact/StudentContactAssociation; OneRoster role guardian/parent). */
export interface GuardianContactUpdated {
  readonly guardian_id: Uuid;
  readonly student_ids: readonly Uuid[];
  readonly version: number;
  /** Personal. */
  readonly email?: string | null;
  /** Personal. */
  readonly phone?: string | null;
  readonly relationship: string;
  /** Personal. */
  readonly custody: "full" | "joint" | "none" | "restricted";
  readonly emergency_order?: number | null;
  readonly language?: string | null;
}

/** IEP amended (34 CFR 300). */
export interface IEPAmended {
  readonly student_id: Uuid;
  readonly iep_id: Uuid;
  readonly version: number;
  readonly changed_sections: readonly string[];
  /** Personal. */
  readonly reason: string;
  readonly effective_date: CalendarDate;
  readonly amended_by: Uuid;
  /** Personal. */
  readonly accommodations?: readonly string[] | null;
  readonly review_completed_on?: CalendarDate | null;
}

/** IEP created (Ed-Fi StudentSpecialEducationProgramAssociation (IEPBeginDate, IEPEndDate, IEPReviewDate, LastEvaluationDate, Disability, SpecialEducationSetting)). */
export interface IEPCreated {
  readonly student_id: Uuid;
  readonly iep_id: Uuid;
  readonly program_type: "IEP";
  /** Personal. */
  readonly disability_category: string;
  readonly begin_date: CalendarDate;
  readonly end_date: CalendarDate;
  readonly annual_review_due: CalendarDate;
  readonly triennial_due: CalendarDate;
  readonly coordinator_id: Uuid;
  readonly case_manager_id?: Uuid | null;
  readonly setting?: string | null;
  readonly services: readonly Service[];
}

/** IEP goal added (Ed-Fi Intervention/StudentInterventionAssociation). */
export interface IEPGoalAdded {
  readonly student_id: Uuid;
  readonly iep_id: Uuid;
  readonly goal_id: Uuid;
  readonly domain: "academic" | "behavior" | "communication" | "motor" | "transition";
  /** Personal. */
  readonly description: string;
  readonly baseline?: Decimal | null;
  readonly target: Decimal;
  readonly measurement: string;
  readonly target_date: CalendarDate;
}

/** IEP review scheduled (34 CFR 300). */
export interface IEPReviewScheduled {
  readonly student_id: Uuid;
  readonly iep_id: Uuid;
  readonly review_type: "annual" | "triennial" | "amendment";
  readonly due_date: CalendarDate;
  readonly scheduled_for?: Timestamp | null;
  readonly days_remaining: number;
  readonly stage: "90" | "60" | "30" | "14" | "overdue";
  readonly team_member_ids: readonly Uuid[];
  readonly guardian_ids: readonly Uuid[];
}

/** IEP service delivered (Ed-Fi SpecialEducationProgramService / ServiceProvider). */
export interface IEPServiceDelivered {
  readonly student_id: Uuid;
  readonly service_log_id: Uuid;
  readonly iep_id: Uuid;
  readonly service_type: string;
  readonly provider_id: Uuid;
  readonly started_at: Timestamp;
  readonly minutes: number;
  readonly delivery: "individual" | "group" | "teletherapy";
  readonly missed_reason?: string | null;
}

/** Intervention assigned (Ed-Fi Intervention (InterventionClass, DeliveryMethod, Dosage)). */
export interface InterventionAssigned {
  readonly student_id: Uuid;
  readonly intervention_id: Uuid;
  readonly tier: 1 | 2 | 3;
  readonly program: string;
  /** Personal. */
  readonly goal: string;
  readonly metric: string;
  readonly baseline?: Decimal | null;
  readonly target: Decimal;
  readonly start_date: CalendarDate;
  readonly end_date: CalendarDate;
  readonly interventionist_id?: Uuid | null;
  readonly source: "iep_goal" | "detection" | "referral";
  /** Personal. */
  readonly reason?: string | null;
  readonly strategies?: readonly string[] | null;
}

/** Intervention completed (Ed-Fi InterventionEffectivenessRatingDescriptor). */
export interface InterventionCompleted {
  readonly student_id: Uuid;
  readonly intervention_id: Uuid;
  readonly outcome: "met" | "partially_met" | "not_met" | "discontinued";
  readonly effectiveness?: "effective" | "somewhat_effective" | "not_effective" | "unknown" | null;
  readonly completed_on: CalendarDate;
  /** Personal. */
  readonly notes_ref?: string | null;
}

/** Intervention progress recorded (Ed-Fi StudentInterventionAssociation (DiagnosticStatement, Dosage)). */
export interface InterventionProgressRecorded {
  readonly student_id: Uuid;
  readonly data_point_id: Uuid;
  readonly intervention_id: Uuid;
  readonly value: Decimal;
  readonly observed_on: CalendarDate;
  readonly minutes?: number | null;
  readonly fidelity?: "full" | "partial" | "none" | null;
}

/** Meal eligibility changed (Ed-Fi SchoolFoodServiceProgramService; Title I). */
export interface MealEligibilityChanged {
  readonly student_id: Uuid;
  readonly school_year: string;
  /** Personal. */
  readonly eligibility: "free" | "reduced" | "paid";
  /** Personal. */
  readonly basis: "application" | "direct_certification" | "cep";
  readonly effective_date: CalendarDate;
}

/** Message flagged. */
export interface MessageFlagged {
  readonly flag_id: Uuid;
  readonly message_id: Uuid;
  readonly thread_id: Uuid;
  readonly reporter_id?: Uuid | null;
  /** Personal. */
  readonly reason: "profanity" | "harassment" | "self_harm" | "spam" | "other";
  readonly source: "user" | "filter";
}

/** Message read. */
export interface MessageRead {
  readonly message_id: Uuid;
  readonly thread_id: Uuid;
  readonly reader_id: Uuid;
  readonly read_at: Timestamp;
}

/** Message replied. */
export interface MessageReplied {
  readonly message_id: Uuid;
  readonly thread_id: Uuid;
  readonly in_reply_to: Uuid;
  readonly sender_id: Uuid;
  readonly replied_at: Timestamp;
}

/** Message sent (Canvas conversation_message_created). */
export interface MessageSent {
  readonly message_id: Uuid;
  readonly thread_id: Uuid;
  readonly sender_id: Uuid;
  readonly recipient_ids: readonly Uuid[];
  readonly student_id?: Uuid | null;
  /** Personal. */
  readonly subject?: string | null;
  /** Personal. */
  readonly body_ref: string;
  /** BCP 47 */
  readonly language: string;
  readonly priority: "low" | "normal" | "high" | "critical";
  readonly sent_at: Timestamp;
  readonly attachments?: readonly Uuid[] | null;
}

/** Notification failed (Twilio failed/undelivered 30003/21610). */
export interface NotificationFailed {
  readonly notification_id: Uuid;
  readonly delivery_id: Uuid;
  readonly recipient_id: Uuid;
  readonly channel: "email" | "sms" | "push" | "in_app" | "voice";
  readonly provider: string;
  readonly provider_message_id: string;
  readonly template?: string | null;
  readonly error_code: string;
  readonly error_class: "transient" | "permanent" | "circuit_open";
  readonly attempts: number;
  readonly priority: "low" | "normal" | "high" | "critical";
  readonly failed_at: Timestamp;
}

/** Notification preferences updated. */
export interface NotificationPreferencesUpdated {
  readonly user_id: Uuid;
  readonly version: number;
  readonly channels: { readonly [name in "email" | "sms" | "push" | "in_app" | "voice"]?: boolean };
  readonly categories: { readonly [name: string]: boolean };
  readonly quiet_hours?: QuietHours | null;
  readonly digest: "none" | "daily" | "weekly";
  /** BCP 47 */
  readonly language: string;
}

/** Parent contact logged. */
export interface ParentContactLogged {
  readonly contact_id: Uuid;
  readonly student_id: Uuid;
  readonly guardian_id: Uuid;
  readonly staff_id: Uuid;
  readonly method: "phone" | "email" | "sms" | "visit" | "meeting";
  readonly outcome: "reached" | "left_message" | "no_answer";
  readonly topic: "attendance" | "grades" | "behavior" | "iep" | "other";
  /** Personal. */
  readonly notes_ref?: string | null;
  readonly occurred_at: Timestamp;
}

/** Push notification sent (FCM v1 error UNREGISTERED). */
export interface PushNotificationSent {
  readonly notification_id: Uuid;
  readonly delivery_id: Uuid;
  readonly recipient_id: Uuid;
  readonly channel: "email" | "sms" | "push" | "in_app" | "voice";
  readonly provider: string;
  readonly provider_message_id: string;
  readonly template?: string | null;
  readonly device_token_id: Uuid;
  readonly result: "ok" | "unregistered" | "invalid_argument" | "quota";
  readonly sent_at: Timestamp;
}

/** Records requested (34 CFR 99). */
export interface RecordsRequested {
  readonly request_id: Uuid;
  readonly student_id: Uuid;
  /** Personal. */
  readonly requester: string;
  readonly requester_type: "parent" | "eligible_student" | "receiving_school" | "agency";
  readonly record_types: readonly string[];
  readonly received_at: Timestamp;
}

/** Report generated (Published by jobs). */
export interface ReportGenerated {
  readonly report_id: Uuid;
  readonly job_id: Uuid;
  readonly kind: string;
  readonly format: "pdf" | "xlsx" | "csv";
  readonly requested_by: Uuid;
  readonly storage_key: string;
  readonly sha256: string;
  readonly size: number;
  readonly pages?: number | null;
  readonly contains_pii: boolean;
  readonly expires_at: Timestamp;
}

/** Resource accessed (Canvas asset_accessed; Caliper ToolUseEvent). */
export interface ResourceAccessed {
  readonly access_id: Uuid;
  readonly resource_id: Uuid;
  readonly user_id: Uuid;
  readonly class_id?: Uuid | null;
  readonly seconds?: number | null;
  readonly app?: string | null;
  readonly accessed_at: Timestamp;
  readonly action: "view" | "download" | "rating";
  readonly rating?: number | null;
}

/** Resource assigned (OneRoster 1). */
export interface ResourceAssigned {
  readonly resource_assignment_id: Uuid;
  readonly resource_id: Uuid;
  readonly kind: "textbook" | "device" | "digital";
  readonly assignee_id: Uuid;
  readonly class_id?: Uuid | null;
  readonly due_back?: CalendarDate | null;
  readonly condition?: string | null;
  readonly barcode?: string | null;
}

/** Retention policy triggered (34 CFR 300). */
export interface RetentionPolicyTriggered {
  readonly run_id: Uuid;
  readonly policy_id: Uuid;
  readonly entity: string;
  readonly cutoff_date: CalendarDate;
  readonly school_id: Uuid;
  readonly candidate_count: number;
  readonly dry_run: boolean;
}

/** Roster sync completed (Clever Events API; Canvas sis_batch). */
export interface RosterSyncCompleted {
  readonly sync_id: Uuid;
  /** More values may come. */
  readonly source: "oneroster_csv" | "oneroster_api" | "clever" | "classlink" | "edfi" | "manual" | (string & {});
  readonly started_at: Timestamp;
  readonly finished_at: Timestamp;
  readonly counts: { readonly [name: string]: SyncCounts };
  readonly previous_total: { readonly [name: string]: number };
}

/** SMS delivered (Twilio MessageStatus=delivered). */
export interface SMSDelivered {
  readonly notification_id: Uuid;
  readonly delivery_id: Uuid;
  readonly recipient_id: Uuid;
  readonly channel: "email" | "sms" | "push" | "in_app" | "voice";
  readonly provider: string;
  readonly provider_message_id: string;
  readonly template?: string | null;
  readonly segments: number;
  readonly price?: Decimal | null;
  readonly delivered_at: Timestamp;
  readonly carrier_status: string;
}

/** A school, district or department exists. */
export interface SchoolCreated {
  readonly school_id: Uuid;
  readonly sourced_id: string;
  readonly parent_org_id: Uuid;
  /** Personal. */
  readonly name: string;
  readonly type: "school" | "district" | "department";
  /** a zone of the IANA database */
  readonly timezone: string;
  readonly grade_levels: readonly string[];
  readonly nces_id?: string | null;
}

/** Section504 plan activated (Ed-Fi StudentSection504ProgramAssociation (AccommodationPlan, Section504MeetingDate)). */
export interface Section504PlanActivated {
  readonly student_id: Uuid;
  readonly plan_id: Uuid;
  readonly begin_date: CalendarDate;
  readonly review_due: CalendarDate;
  /** Personal. */
  readonly impairment?: string | null;
  /** Personal. */
  readonly accommodations: readonly Accommodation[];
  readonly coordinator_id: Uuid;
  readonly review_completed_on?: CalendarDate | null;
}

/** Standard score recorded (Canvas learning_outcome_result_created; Ed-Fi LearningStandardGrade). */
export interface StandardScoreRecorded {
  readonly score_id: Uuid;
  readonly student_id: Uuid;
  readonly class_id: Uuid;
  readonly standard_id: string;
  /** Personal. */
  readonly score: Decimal;
  readonly scale_max: Decimal;
  readonly assessed_at: Timestamp;
  readonly method_override?: "decaying" | "latest" | "highest" | "mode" | "mean" | null;
}

/** A student is absent for the day without an excuse; guardians are to be told. */
export interface StudentAbsent {
  readonly student_id: Uuid;
  readonly school_id: Uuid;
  readonly date: CalendarDate;
  readonly excused: boolean;
  readonly periods?: readonly string[] | null;
  readonly consecutive_days: number;
  readonly guardian_ids: readonly Uuid[];
}

/** A student entered a school or a class. */
export interface StudentEnrolled {
  readonly enrollment_id: Uuid;
  readonly student_id: Uuid;
  readonly class_id?: Uuid | null;
  readonly school_id: Uuid;
  readonly begin_date: CalendarDate;
  readonly entry_type?: string | null;
  readonly grade_level: string;
  readonly role: "student";
}

/** Student record accessed (34 CFR 300). */
export interface StudentRecordAccessed {
  readonly access_id: Uuid;
  readonly student_id: Uuid;
  readonly actor_id: Uuid;
  readonly actor_role: "administrator" | "aide" | "counselor" | "districtAdministrator" | "guardian" | "parent" | "principal" | "proctor" | "relative" | "siteAdministrator" | "student" | "systemAdministrator" | "teacher";
  readonly record_type: "grades" | "attendance" | "iep" | "504" | "health" | "discipline" | "demographics";
  readonly purpose?: string | null;
  /** Personal. */
  readonly source_ip_hash?: string | null;
  readonly accessed_at: Timestamp;
}

/** Student record disclosed (34 CFR 99). */
export interface StudentRecordDisclosed {
  readonly disclosure_id: Uuid;
  readonly student_id: Uuid;
  /** Personal. */
  readonly recipient_party: string;
  readonly recipient_type: "parent" | "school_official" | "consented" | "directory" | "subpoena_99_31_a9" | "other_school" | "audit" | "health_safety" | "research" | "other";
  /** Personal. */
  readonly legitimate_interest: string;
  readonly records: readonly string[];
  readonly exception_cite?: string | null;
  readonly further_parties?: readonly string[] | null;
  readonly disclosed_by: Uuid;
  readonly disclosed_at: Timestamp;
}

/** Student risk detected (ABC early-warning (attendance, behavior, course)). */
export interface StudentRiskDetected {
  readonly student_id: Uuid;
  readonly risk_id: Uuid;
  readonly school_id: Uuid;
  readonly window_end: CalendarDate;
  /** Personal. */
  readonly score: number;
  readonly attendance_pts: number;
  readonly behavior_pts: number;
  readonly course_pts: number;
  readonly reasons: readonly string[];
  readonly recommended_tier: 1 | 2 | 3;
  readonly model_version: string;
}

/** Student transferred (Ed-Fi StudentSchoolAssociation (ExitWithdrawType, EntryType); Clever enrollments). */
export interface StudentTransferred {
  readonly transfer_id: Uuid;
  readonly student_id: Uuid;
  readonly from_school_id: Uuid;
  readonly to_school_id?: Uuid | null;
  readonly to_tenant?: string | null;
  readonly effective_date: CalendarDate;
  readonly grade_level: string;
  readonly records_requested: boolean;
}

/** Student withdrawn (Ed-Fi ExitWithdrawType; Canvas enrollment_state_updated). */
export interface StudentWithdrawn {
  readonly enrollment_id: Uuid;
  readonly student_id: Uuid;
  readonly class_id?: Uuid | null;
  readonly school_id: Uuid;
  readonly end_date: CalendarDate;
  readonly exit_type: string;
  readonly receiving_school?: string | null;
  readonly records_requested: boolean;
}

/** Teacher assigned (OneRoster Enrollment role=teacher, primary). */
export interface TeacherAssigned {
  readonly assignment_id: Uuid;
  readonly teacher_id: Uuid;
  readonly class_id: Uuid;
  readonly role: "primary" | "co_teacher" | "substitute" | "aide";
  readonly begin_date: CalendarDate;
  readonly end_date?: CalendarDate | null;
}

/** An account exists. On rostering, like all events of a user; its handler is registered in demographics. */
export interface UserCreated {
  readonly user_id: Uuid;
  readonly sourced_id: string;
  readonly roles: readonly UserRole[];
  /** Personal. */
  readonly given_name: string;
  /** Personal. */
  readonly family_name: string;
  /** Personal. */
  readonly email?: string | null;
  /** Personal. */
  readonly phone?: string | null;
  readonly grades?: readonly string[] | null;
  readonly status: "active" | "tobedeleted";
}

/** User deactivated (OneRoster status=tobedeleted). */
export interface UserDeactivated {
  readonly user_id: Uuid;
  /** Personal. */
  readonly reason: "graduated" | "withdrawn" | "left" | "duplicate";
  readonly effective_date: CalendarDate;
  readonly deactivated_by?: Uuid | null;
}

/** User updated (OneRoster dateLastModified). */
export interface UserUpdated {
  readonly user_id: Uuid;
  readonly version: number;
  readonly changed: readonly string[];
  /** Personal. */
  readonly email?: string | null;
  /** Personal. */
  readonly phone?: string | null;
  /** Personal. */
  readonly given_name?: string | null;
  /** Personal. */
  readonly family_name?: string | null;
  readonly grades?: readonly string[] | null;
  readonly last_login_at?: Timestamp | null;
}

/** Name of an event -> its data. */
export interface EventData {
  readonly AcademicSessionCreated: AcademicSessionCreated;
  readonly AddressChanged: AddressChanged;
  readonly AnnouncementPublished: AnnouncementPublished;
  readonly ArchiveCompleted: ArchiveCompleted;
  readonly AssignmentCreated: AssignmentCreated;
  readonly AssignmentDeleted: AssignmentDeleted;
  readonly AssignmentMissed: AssignmentMissed;
  readonly AssignmentSubmitted: AssignmentSubmitted;
  readonly AssignmentUpdated: AssignmentUpdated;
  readonly AttendanceCorrected: AttendanceCorrected;
  readonly AttendanceMarked: AttendanceMarked;
  readonly AttendanceThresholdReached: AttendanceThresholdReached;
  readonly BehaviorIncidentReported: BehaviorIncidentReported;
  readonly ChatAttachmentUploaded: ChatAttachmentUploaded;
  readonly ChatMemberJoined: ChatMemberJoined;
  readonly ChatMemberLeft: ChatMemberLeft;
  readonly ChatMessageDeleted: ChatMessageDeleted;
  readonly ChatMessageEdited: ChatMessageEdited;
  readonly ChatMessageRead: ChatMessageRead;
  readonly ChatMessageReported: ChatMessageReported;
  readonly ChatMessageSent: ChatMessageSent;
  readonly ChatReactionAdded: ChatReactionAdded;
  readonly ChatRoomCreated: ChatRoomCreated;
  readonly ClassArchived: ClassArchived;
  readonly ClassCreated: ClassCreated;
  readonly ClassGradeChanged: ClassGradeChanged;
  readonly ClassUpdated: ClassUpdated;
  readonly ComplianceDeadlineMissed: ComplianceDeadlineMissed;
  readonly ConferenceScheduled: ConferenceScheduled;
  readonly ConsentRecorded: ConsentRecorded;
  readonly DemographicsUpdated: DemographicsUpdated;
  readonly EmailBounced: EmailBounced;
  readonly EmailSent: EmailSent;
  readonly EmergencyAlertIssued: EmergencyAlertIssued;
  readonly EnglishLearnerStatusChanged: EnglishLearnerStatusChanged;
  readonly FinalGradePosted: FinalGradePosted;
  readonly GradeCategoryWeightsChanged: GradeCategoryWeightsChanged;
  readonly GradeUpdated: GradeUpdated;
  readonly GradingPeriodClosed: GradingPeriodClosed;
  readonly GuardianContactUpdated: GuardianContactUpdated;
  readonly IEPAmended: IEPAmended;
  readonly IEPCreated: IEPCreated;
  readonly IEPGoalAdded: IEPGoalAdded;
  readonly IEPReviewScheduled: IEPReviewScheduled;
  readonly IEPServiceDelivered: IEPServiceDelivered;
  readonly InterventionAssigned: InterventionAssigned;
  readonly InterventionCompleted: InterventionCompleted;
  readonly InterventionProgressRecorded: InterventionProgressRecorded;
  readonly MealEligibilityChanged: MealEligibilityChanged;
  readonly MessageFlagged: MessageFlagged;
  readonly MessageRead: MessageRead;
  readonly MessageReplied: MessageReplied;
  readonly MessageSent: MessageSent;
  readonly NotificationFailed: NotificationFailed;
  readonly NotificationPreferencesUpdated: NotificationPreferencesUpdated;
  readonly ParentContactLogged: ParentContactLogged;
  readonly PushNotificationSent: PushNotificationSent;
  readonly RecordsRequested: RecordsRequested;
  readonly ReportGenerated: ReportGenerated;
  readonly ResourceAccessed: ResourceAccessed;
  readonly ResourceAssigned: ResourceAssigned;
  readonly RetentionPolicyTriggered: RetentionPolicyTriggered;
  readonly RosterSyncCompleted: RosterSyncCompleted;
  readonly SMSDelivered: SMSDelivered;
  readonly SchoolCreated: SchoolCreated;
  readonly Section504PlanActivated: Section504PlanActivated;
  readonly StandardScoreRecorded: StandardScoreRecorded;
  readonly StudentAbsent: StudentAbsent;
  readonly StudentEnrolled: StudentEnrolled;
  readonly StudentRecordAccessed: StudentRecordAccessed;
  readonly StudentRecordDisclosed: StudentRecordDisclosed;
  readonly StudentRiskDetected: StudentRiskDetected;
  readonly StudentTransferred: StudentTransferred;
  readonly StudentWithdrawn: StudentWithdrawn;
  readonly TeacherAssigned: TeacherAssigned;
  readonly UserCreated: UserCreated;
  readonly UserDeactivated: UserDeactivated;
  readonly UserUpdated: UserUpdated;
}

/** Type, topic and key field of each event. */
export declare const EVENTS: {
  readonly AcademicSessionCreated: { readonly type: "com.skillcore.rostering.AcademicSessionCreated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "school_id" };
  readonly AddressChanged: { readonly type: "com.skillcore.demographics.AddressChanged.v1"; readonly topic: "skillcore.demographics.events.v1"; readonly key: "student_id" };
  readonly AnnouncementPublished: { readonly type: "com.skillcore.communication.AnnouncementPublished.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "announcement_id" };
  readonly ArchiveCompleted: { readonly type: "com.skillcore.resources.ArchiveCompleted.v1"; readonly topic: "skillcore.resources.events.v1"; readonly key: "archive_id" };
  readonly AssignmentCreated: { readonly type: "com.skillcore.gradebook.AssignmentCreated.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly AssignmentDeleted: { readonly type: "com.skillcore.gradebook.AssignmentDeleted.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly AssignmentMissed: { readonly type: "com.skillcore.gradebook.AssignmentMissed.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly AssignmentSubmitted: { readonly type: "com.skillcore.gradebook.AssignmentSubmitted.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly AssignmentUpdated: { readonly type: "com.skillcore.gradebook.AssignmentUpdated.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly AttendanceCorrected: { readonly type: "com.skillcore.attendance.AttendanceCorrected.v1"; readonly topic: "skillcore.attendance.events.v1"; readonly key: "student_id" };
  readonly AttendanceMarked: { readonly type: "com.skillcore.attendance.AttendanceMarked.v1"; readonly topic: "skillcore.attendance.events.v1"; readonly key: "student_id" };
  readonly AttendanceThresholdReached: { readonly type: "com.skillcore.attendance.AttendanceThresholdReached.v1"; readonly topic: "skillcore.attendance.events.v1"; readonly key: "student_id" };
  readonly BehaviorIncidentReported: { readonly type: "com.skillcore.interventions.BehaviorIncidentReported.v1"; readonly topic: "skillcore.interventions.events.v1"; readonly key: "student_id" };
  readonly ChatAttachmentUploaded: { readonly type: "com.skillcore.chat.ChatAttachmentUploaded.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMemberJoined: { readonly type: "com.skillcore.chat.ChatMemberJoined.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMemberLeft: { readonly type: "com.skillcore.chat.ChatMemberLeft.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMessageDeleted: { readonly type: "com.skillcore.chat.ChatMessageDeleted.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMessageEdited: { readonly type: "com.skillcore.chat.ChatMessageEdited.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMessageRead: { readonly type: "com.skillcore.chat.ChatMessageRead.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMessageReported: { readonly type: "com.skillcore.chat.ChatMessageReported.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatMessageSent: { readonly type: "com.skillcore.chat.ChatMessageSent.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatReactionAdded: { readonly type: "com.skillcore.chat.ChatReactionAdded.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ChatRoomCreated: { readonly type: "com.skillcore.chat.ChatRoomCreated.v1"; readonly topic: "skillcore.chat.events.v1"; readonly key: "room_id" };
  readonly ClassArchived: { readonly type: "com.skillcore.rostering.ClassArchived.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "class_id" };
  readonly ClassCreated: { readonly type: "com.skillcore.rostering.ClassCreated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "class_id" };
  readonly ClassGradeChanged: { readonly type: "com.skillcore.gradebook.ClassGradeChanged.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly ClassUpdated: { readonly type: "com.skillcore.rostering.ClassUpdated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "class_id" };
  readonly ComplianceDeadlineMissed: { readonly type: "com.skillcore.compliance.ComplianceDeadlineMissed.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "student_id" };
  readonly ConferenceScheduled: { readonly type: "com.skillcore.communication.ConferenceScheduled.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "conference_id" };
  readonly ConsentRecorded: { readonly type: "com.skillcore.compliance.ConsentRecorded.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "student_id" };
  readonly DemographicsUpdated: { readonly type: "com.skillcore.demographics.DemographicsUpdated.v1"; readonly topic: "skillcore.demographics.events.v1"; readonly key: "student_id" };
  readonly EmailBounced: { readonly type: "com.skillcore.notifications.EmailBounced.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "recipient_id" };
  readonly EmailSent: { readonly type: "com.skillcore.notifications.EmailSent.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "recipient_id" };
  readonly EmergencyAlertIssued: { readonly type: "com.skillcore.communication.EmergencyAlertIssued.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "alert_id" };
  readonly EnglishLearnerStatusChanged: { readonly type: "com.skillcore.demographics.EnglishLearnerStatusChanged.v1"; readonly topic: "skillcore.demographics.events.v1"; readonly key: "student_id" };
  readonly FinalGradePosted: { readonly type: "com.skillcore.gradebook.FinalGradePosted.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly GradeCategoryWeightsChanged: { readonly type: "com.skillcore.gradebook.GradeCategoryWeightsChanged.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly GradeUpdated: { readonly type: "com.skillcore.gradebook.GradeUpdated.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly GradingPeriodClosed: { readonly type: "com.skillcore.gradebook.GradingPeriodClosed.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "school_id" };
  readonly GuardianContactUpdated: { readonly type: "com.skillcore.demographics.GuardianContactUpdated.v1"; readonly topic: "skillcore.demographics.events.v1"; readonly key: "guardian_id" };
  readonly IEPAmended: { readonly type: "com.skillcore.special-programs.IEPAmended.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly IEPCreated: { readonly type: "com.skillcore.special-programs.IEPCreated.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly IEPGoalAdded: { readonly type: "com.skillcore.special-programs.IEPGoalAdded.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly IEPReviewScheduled: { readonly type: "com.skillcore.special-programs.IEPReviewScheduled.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly IEPServiceDelivered: { readonly type: "com.skillcore.special-programs.IEPServiceDelivered.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly InterventionAssigned: { readonly type: "com.skillcore.interventions.InterventionAssigned.v1"; readonly topic: "skillcore.interventions.events.v1"; readonly key: "student_id" };
  readonly InterventionCompleted: { readonly type: "com.skillcore.interventions.InterventionCompleted.v1"; readonly topic: "skillcore.interventions.events.v1"; readonly key: "student_id" };
  readonly InterventionProgressRecorded: { readonly type: "com.skillcore.interventions.InterventionProgressRecorded.v1"; readonly topic: "skillcore.interventions.events.v1"; readonly key: "student_id" };
  readonly MealEligibilityChanged: { readonly type: "com.skillcore.demographics.MealEligibilityChanged.v1"; readonly topic: "skillcore.demographics.events.v1"; readonly key: "student_id" };
  readonly MessageFlagged: { readonly type: "com.skillcore.communication.MessageFlagged.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "thread_id" };
  readonly MessageRead: { readonly type: "com.skillcore.communication.MessageRead.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "thread_id" };
  readonly MessageReplied: { readonly type: "com.skillcore.communication.MessageReplied.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "thread_id" };
  readonly MessageSent: { readonly type: "com.skillcore.communication.MessageSent.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "thread_id" };
  readonly NotificationFailed: { readonly type: "com.skillcore.notifications.NotificationFailed.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "recipient_id" };
  readonly NotificationPreferencesUpdated: { readonly type: "com.skillcore.notifications.NotificationPreferencesUpdated.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "user_id" };
  readonly ParentContactLogged: { readonly type: "com.skillcore.communication.ParentContactLogged.v1"; readonly topic: "skillcore.communication.events.v1"; readonly key: "student_id" };
  readonly PushNotificationSent: { readonly type: "com.skillcore.notifications.PushNotificationSent.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "recipient_id" };
  readonly RecordsRequested: { readonly type: "com.skillcore.compliance.RecordsRequested.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "student_id" };
  readonly ReportGenerated: { readonly type: "com.skillcore.resources.ReportGenerated.v1"; readonly topic: "skillcore.resources.events.v1"; readonly key: "report_id" };
  readonly ResourceAccessed: { readonly type: "com.skillcore.resources.ResourceAccessed.v1"; readonly topic: "skillcore.resources.events.v1"; readonly key: "resource_id" };
  readonly ResourceAssigned: { readonly type: "com.skillcore.resources.ResourceAssigned.v1"; readonly topic: "skillcore.resources.events.v1"; readonly key: "resource_id" };
  readonly RetentionPolicyTriggered: { readonly type: "com.skillcore.compliance.RetentionPolicyTriggered.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "policy_id" };
  readonly RosterSyncCompleted: { readonly type: "com.skillcore.rostering.RosterSyncCompleted.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "sync_id" };
  readonly SMSDelivered: { readonly type: "com.skillcore.notifications.SMSDelivered.v1"; readonly topic: "skillcore.notifications.events.v1"; readonly key: "recipient_id" };
  readonly SchoolCreated: { readonly type: "com.skillcore.rostering.SchoolCreated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "school_id" };
  readonly Section504PlanActivated: { readonly type: "com.skillcore.special-programs.Section504PlanActivated.v1"; readonly topic: "skillcore.special-programs.events.v1"; readonly key: "student_id" };
  readonly StandardScoreRecorded: { readonly type: "com.skillcore.gradebook.StandardScoreRecorded.v1"; readonly topic: "skillcore.gradebook.events.v1"; readonly key: "class_id" };
  readonly StudentAbsent: { readonly type: "com.skillcore.attendance.StudentAbsent.v1"; readonly topic: "skillcore.attendance.events.v1"; readonly key: "student_id" };
  readonly StudentEnrolled: { readonly type: "com.skillcore.rostering.StudentEnrolled.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "student_id" };
  readonly StudentRecordAccessed: { readonly type: "com.skillcore.compliance.StudentRecordAccessed.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "student_id" };
  readonly StudentRecordDisclosed: { readonly type: "com.skillcore.compliance.StudentRecordDisclosed.v1"; readonly topic: "skillcore.compliance.events.v1"; readonly key: "student_id" };
  readonly StudentRiskDetected: { readonly type: "com.skillcore.interventions.StudentRiskDetected.v1"; readonly topic: "skillcore.interventions.events.v1"; readonly key: "student_id" };
  readonly StudentTransferred: { readonly type: "com.skillcore.rostering.StudentTransferred.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "student_id" };
  readonly StudentWithdrawn: { readonly type: "com.skillcore.rostering.StudentWithdrawn.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "student_id" };
  readonly TeacherAssigned: { readonly type: "com.skillcore.rostering.TeacherAssigned.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "class_id" };
  readonly UserCreated: { readonly type: "com.skillcore.rostering.UserCreated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "user_id" };
  readonly UserDeactivated: { readonly type: "com.skillcore.rostering.UserDeactivated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "user_id" };
  readonly UserUpdated: { readonly type: "com.skillcore.rostering.UserUpdated.v1"; readonly topic: "skillcore.rostering.events.v1"; readonly key: "user_id" };
};

export type EventName = keyof EventData;

/** A CloudEvent 1.0 with its data. The tenant comes from `tenantid` only. */
export interface Envelope<N extends EventName> {
  readonly specversion: "1.0";
  /** The same id from the same source and tenant is the same event: sending it again changes nothing. */
  readonly id: string;
  readonly source: string;
  readonly type: (typeof EVENTS)[N]["type"];
  readonly time: Timestamp;
  readonly tenantid: string;
  readonly subject?: string;
  /** Set on everything that SkillCore publishes, like the next two. */
  readonly correlationid?: string;
  readonly causationid?: string;
  readonly actorid?: string;
  readonly data: EventData[N];
}

/** Any event, told apart by `type`. */
export type AnyEvent = { [N in EventName]: Envelope<N> }[EventName];

/** The headers of a record in Kafka's binary mode. */
export interface EventHeaders<N extends EventName> {
  readonly ce_specversion: "1.0";
  readonly ce_id: string;
  readonly ce_source: string;
  readonly ce_type: (typeof EVENTS)[N]["type"];
  readonly ce_time: Timestamp;
  readonly ce_tenantid: string;
  readonly ce_subject?: string;
  readonly ce_correlationid?: string;
  readonly ce_causationid?: string;
  readonly ce_actorid?: string;
  readonly traceparent?: string;
  readonly "content-type": "application/json";
}
