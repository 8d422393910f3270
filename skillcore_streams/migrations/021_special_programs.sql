-- Special programs: IEPs (34 CFR 300.320-324), Section 504 plans (34 CFR 104.33-35), what they promise and by when.

create table ieps (
    tenant_id           text        not null,
    student_id          uuid        not null,
    iep_id              uuid        not null,
    disability_category text        not null,
    begin_date          date        not null,
    end_date            date        not null,
    annual_review_due   date        not null,
    triennial_due       date        not null,
    coordinator_id      uuid        not null,
    case_manager_id     uuid,
    setting             text,
    services            jsonb       not null,                       -- [{type, minutes_per_week}]
    said_at             timestamptz not null,                       -- event time and key: the last writer wins
    said_by             uuid        not null,
    primary key (tenant_id, student_id, iep_id)
);

-- Who answers for the student: of the IEP that began last. The row is also what is locked while anything of the
-- student's programs is recomputed, so its other columns are null until an IEP has arrived.
create table program_caseload (
    tenant_id       text not null,
    student_id      uuid not null,
    iep_id          uuid,
    coordinator_id  uuid,
    case_manager_id uuid,
    primary key (tenant_id, student_id)
);
create index on program_caseload (tenant_id, case_manager_id) where case_manager_id is not null;

create table iep_versions (
    tenant_id           text        not null,
    student_id          uuid        not null,
    iep_id              uuid        not null,
    version             int         not null,
    effective_date      date        not null,
    review_completed_on date,
    snapshot            jsonb       not null,                       -- the amendment as it was sent
    said_at             timestamptz not null,
    said_by             uuid        not null,
    primary key (tenant_id, student_id, iep_id, version)
);
create table iep_goals (
    tenant_id         text        not null,
    student_id        uuid        not null,
    goal_id           uuid        not null,
    iep_id            uuid        not null,
    domain            text        not null,
    description       text        not null,
    baseline          numeric,
    target            numeric     not null,
    measurement       text        not null,
    start_date        date        not null,                         -- the aim line runs from here to target_date
    target_date       date        not null,
    aim_line_slope    numeric,                                      -- units of the measurement a week
    interventionist_id uuid,                                        -- as InterventionAssigned was last published
    said_at           timestamptz not null,
    said_by           uuid        not null,
    primary key (tenant_id, student_id, goal_id)
);
create index on iep_goals (tenant_id, student_id, iep_id);

-- Each activation of a 504 plan is kept: what stands follows from all of them, whatever order they came in.
create table section504_versions (
    tenant_id           text        not null,
    student_id          uuid        not null,
    plan_id             uuid        not null,
    said_at             timestamptz not null,
    said_by             uuid        not null,
    begin_date          date        not null,
    review_due          date        not null,
    review_completed_on date,
    primary key (tenant_id, student_id, plan_id, said_by)
);
create table section504_plans (
    tenant_id      text        not null,
    student_id     uuid        not null,
    plan_id        uuid        not null,
    begin_date     date        not null,
    review_due     date        not null,
    impairment     text,
    coordinator_id uuid        not null,
    said_at        timestamptz not null,
    said_by        uuid        not null,
    primary key (tenant_id, student_id, plan_id)
);
create table accommodations (
    tenant_id   text not null,
    student_id  uuid not null,
    plan_id     uuid not null,
    n           int  not null,                                      -- place in the plan: a code may stand there twice
    code        text not null,
    description text not null,
    settings    text,
    primary key (tenant_id, student_id, plan_id, n)
);

-- One row a cycle of review: opened by the plan or by the review before, closed by its own.
create table compliance_deadlines (
    tenant_id    text not null,
    student_id   uuid not null,
    kind         text not null check (kind in ('annual_review', 'triennial', 'initial_eval', '504_review', 'el_notice',
                                               'manifestation', 'records_request')),
    subject_id   uuid not null,                                     -- the IEP, plan, incident or request it is about
    opened_on    date not null,
    deadline_id  uuid not null,                                     -- of this due date: a moved one is another
    due_date     date not null,
    owner_id     uuid,                                              -- null until it is known who answers for it
    stage        text check (stage in ('90', '60', '30', '14', 'overdue')),
    completed_on date,                                              -- what was due was done
    closed_on    date,                                              -- completed, or a later IEP took its place
    escalation   int,                                               -- the sweep's: days overdue last told, 0, 1, 7, 14
    primary key (tenant_id, student_id, kind, subject_id, opened_on)
);
create unique index on compliance_deadlines (tenant_id, deadline_id);
create index compliance_deadlines_open on compliance_deadlines (tenant_id, due_date) where closed_on is null;

-- Each stage of a review is told once.
create table reminder_log (
    tenant_id      text        not null,
    student_id     uuid        not null,
    iep_id         uuid        not null,
    review_type    text        not null,
    due_date       date        not null,
    stage          text        not null,
    days_remaining int         not null,
    scheduled_for  timestamptz,
    event_key      uuid        not null,
    primary key (tenant_id, student_id, iep_id, review_type, due_date, stage)
);

-- Who teaches the student must know the plan (34 CFR 300.323(d)) and say so; acknowledged_at is theirs to set.
create table accommodation_acks (
    tenant_id       text not null,
    student_id      uuid not null,
    plan            text not null check (plan in ('iep', '504')),
    plan_id         uuid not null,
    version         text not null,                                  -- an IEP's number; a 504 plan's event
    teacher_id      uuid not null,
    requested_at    timestamptz not null,
    acknowledged_at timestamptz,
    withdrawn_at    timestamptz,                                    -- a newer version, or teaches the student no more
    primary key (tenant_id, student_id, plan_id, version, teacher_id)
);
create index accommodation_acks_open on accommodation_acks (tenant_id, teacher_id)
    where acknowledged_at is null and withdrawn_at is null;

create table service_logs (
    tenant_id      text        not null,
    student_id     uuid        not null,
    service_log_id uuid        not null,
    iep_id         uuid        not null,
    service_type   text        not null,
    provider_id    uuid        not null,
    started_at     timestamptz not null,
    minutes        int         not null,
    delivery       text        not null,
    missed_reason  text,                                            -- with a reason, nothing was delivered
    said_at        timestamptz not null,
    said_by        uuid        not null,
    primary key (tenant_id, student_id, service_log_id)
);
create index on service_logs (tenant_id, student_id, started_at);

-- Weeks with at least one entry, Monday to Sunday at the student's school.
create table service_minutes_weekly (
    tenant_id  text   not null,
    student_id uuid   not null,
    week       date   not null check (extract(isodow from week) = 1),
    delivered  bigint not null,                                     -- minutes of all services
    credited   bigint not null,                                     -- the same, each service up to its own mandate
    mandated   bigint,                                              -- null: no IEP in force from Monday to Friday
    primary key (tenant_id, student_id, week)
) with (fillfactor = 85);
