-- The gradebook: what counts for how much, what was assigned, what was given for it, and what follows from that. All
-- points and percentages are exact; a rounded number is never stored.

-- A school's own way of grading, copied into its new classes. Without a row: all work by points, missing work is zero.
create table grading_templates (
    tenant_id      text  not null,
    school_id      uuid  not null,
    method         text  not null default 'points' check (method in ('points', 'percentages')),
    missing_policy text  not null default 'zero' check (missing_policy in ('zero', 'ignore', 'floor50')),
    categories     jsonb not null,                                  -- as in GradeCategoryWeightsChanged
    primary key (tenant_id, school_id)
);
-- The highest version applies. Version 0 is the class's first and comes with it, the others come with events.
create table grading_schemes (
    tenant_id      text  not null,
    class_id       uuid  not null,
    version        int   not null,
    method         text  not null default 'points' check (method in ('points', 'percentages')),
    missing_policy text  not null default 'zero' check (missing_policy in ('zero', 'ignore', 'floor50')),
    categories     jsonb not null,
    effective_from date,
    changed_by     uuid,
    primary key (tenant_id, class_id, version)
);

create table assignments (
    tenant_id       text        not null,
    class_id        uuid        not null,
    assignment_id   uuid        not null,
    version         int         not null default 0,                 -- of AssignmentUpdated; AssignmentCreated is 0
    category_id     uuid        not null,
    title           text        not null,
    points_possible numeric     not null,
    due_at          timestamptz,
    assigned_on     date        not null,
    grading_type    text        not null,
    extra_credit    boolean     not null,
    omit_from_final boolean     not null,
    published       boolean     not null,
    deleted_at      timestamptz,
    said_at         timestamptz not null,                           -- among words of one version the last writer wins
    said_by         uuid        not null,
    primary key (tenant_id, class_id, assignment_id)
);
create table student_assignments (
    tenant_id     text    not null,
    class_id      uuid    not null,
    student_id    uuid    not null,
    assignment_id uuid    not null,
    status        text    not null default 'assigned',
    missing       boolean not null default false,
    primary key (tenant_id, class_id, student_id, assignment_id)
);
create index on enrollments (tenant_id, class_id) where class_id is not null;

create table grades (
    tenant_id       text        not null,
    class_id        uuid        not null,
    grade_id        uuid        not null,
    student_id      uuid        not null,
    assignment_id   uuid        not null,
    submission_id   uuid,
    score           numeric,
    points_possible numeric     not null,
    letter          text,
    excused         boolean     not null,
    missing         boolean     not null,
    late            boolean     not null,
    posted          boolean     not null,
    voided          boolean     not null default false,             -- its assignment was deleted
    said_at         timestamptz not null,                           -- graded_at and the event: the last writer wins
    said_by         uuid        not null,
    primary key (tenant_id, class_id, grade_id)
);
create index on grades (tenant_id, class_id, student_id, assignment_id, said_at);

-- One row a student and class, which is also the lock of all that is computed for them.
create table student_class_grades (
    tenant_id              text not null,
    class_id               uuid not null,
    student_id             uuid not null,
    current_score          numeric,                                 -- 28 significant digits; null: nothing counts yet
    final_score            numeric,
    letter                 text,                                    -- of the current score
    unposted_current_score numeric,                                 -- the same with grades that are not posted yet
    unposted_final_score   numeric,
    calc_version           int  not null default 0,                 -- changes so far: which of two answers is newer
    primary key (tenant_id, class_id, student_id)
) with (fillfactor = 60);
create index on student_class_grades (tenant_id, student_id);
create table grade_history (
    tenant_id     text        not null,
    class_id      uuid        not null,
    student_id    uuid        not null,
    calc_version  int         not null,
    as_of         timestamptz not null,                             -- time of the newest grade it was computed from
    current_score numeric,
    final_score   numeric,
    letter        text,
    primary key (tenant_id, class_id, student_id, calc_version)
);

-- Append-only. The chain-sealer numbers and hashes its rows.
create table grade_audit (
    tenant_id           text        not null,
    event_key           uuid        not null,
    class_id            uuid        not null,
    student_id          uuid        not null,
    assignment_id       uuid        not null,
    grade_id            uuid        not null,
    old_score           numeric,
    score               numeric,
    old_points_possible numeric,
    points_possible     numeric     not null,
    letter              text,
    excused             boolean     not null,
    missing             boolean     not null,
    late                boolean     not null,
    posted              boolean     not null,
    grader_id           uuid,
    reason              text,
    graded_at           timestamptz not null,
    primary key (tenant_id, event_key)
);
create index on grade_audit (tenant_id, class_id, assignment_id);
create table grading_period_locks (
    tenant_id         text        not null,
    school_id         uuid        not null,
    grading_period_id uuid        not null,
    closed_at         timestamptz not null,
    closed_by         uuid        not null,
    primary key (tenant_id, school_id, grading_period_id)
);
