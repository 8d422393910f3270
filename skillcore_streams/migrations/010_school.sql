-- What the first handlers keep. Every key begins with the tenant; rows of different aggregates arrive in any order, so
-- none refers to another by a foreign key.

-- "2021-2022": a school year begins on 1 July, whatever its first day of instruction is.
create function school_year(day date) returns text language sql immutable parallel safe as $$
    select case when extract(month from day) >= 7
                then extract(year from day)::int || '-' || extract(year from day)::int + 1
                else extract(year from day)::int - 1 || '-' || extract(year from day)::int end
$$;

create table orgs (
    tenant_id     text        not null,
    org_id        uuid        not null,
    sourced_id    text        not null,
    parent_org_id uuid        not null,
    name          text        not null,
    type          text        not null,
    timezone      text        not null,
    grade_levels  text[]      not null,
    nces_id       text,
    said_at       timestamptz not null,                             -- event time and key: the last writer wins
    said_by       uuid        not null,
    primary key (tenant_id, org_id)
);
create table attendance_codes (
    tenant_id text not null, school_id uuid not null, code text not null,
    category  text not null,
    primary key (tenant_id, school_id, code)
);
create table letter_scales (
    tenant_id text not null, school_id uuid not null, letter text not null,
    min_percent numeric not null,
    primary key (tenant_id, school_id, letter)
);
create table bell_schedule (
    tenant_id text not null, school_id uuid not null, period text not null,
    minutes   int  not null check (minutes > 0),
    primary key (tenant_id, school_id, period)
);
create table retention_policies (
    tenant_id   text not null, entity text not null,
    years       int  not null,
    legal_basis text not null,
    primary key (tenant_id, entity)
);

create table academic_sessions (
    tenant_id          text        not null,
    session_id         uuid        not null,
    school_id          uuid        not null,
    type               text        not null,
    title              text        not null,
    start_date         date        not null,
    end_date           date        not null,
    parent_id          uuid,
    instructional_days date[]      not null default '{}',
    said_at            timestamptz not null,
    said_by            uuid        not null,
    primary key (tenant_id, session_id)
);
create index on academic_sessions (tenant_id, school_id);

-- The denominator of every absence rate: the days of instruction, numbered within their year.
create table school_calendar_days (
    tenant_id   text not null,
    school_id   uuid not null,
    day         date not null,
    school_year text not null,
    ordinal     int  not null,
    primary key (tenant_id, school_id, day)
);
create unique index on school_calendar_days (tenant_id, school_id, school_year, ordinal);

create table user_profiles (
    tenant_id      text   not null,
    user_id        uuid   not null,
    version        int    not null default 0,
    sourced_id     text   not null,
    roles          jsonb  not null,
    given_name     text   not null,
    family_name    text   not null,
    email          text,
    phone          text,
    grades         text[],
    status         text   not null,
    last_login_at  timestamptz,
    deactivated_on date,
    primary key (tenant_id, user_id)
);
create table contact_points (
    tenant_id text    not null,
    owner     text    not null check (owner in ('user', 'guardian')),
    owner_id  uuid    not null,
    channel   text    not null,
    address   text    not null,
    version   int     not null default 0,
    verified  boolean not null default false,
    primary key (tenant_id, owner, owner_id, channel)
);
create table notification_preferences (
    tenant_id text  not null,
    user_id   uuid  not null,
    version   int   not null default 0,
    channels  jsonb not null,
    digest    text  not null,
    language  text,
    primary key (tenant_id, user_id)
);

create table enrollments (
    tenant_id     text not null,
    enrollment_id uuid not null,
    student_id    uuid not null,
    class_id      uuid,
    school_id     uuid not null,
    begin_date    date not null,
    end_date      date,
    entry_type    text,
    grade_level   text not null,
    said_at       timestamptz not null,
    said_by       uuid not null,
    primary key (tenant_id, enrollment_id)
);
create index on enrollments (tenant_id, student_id, school_id);
create table student_membership (
    tenant_id  text not null,
    student_id uuid not null,
    school_id  uuid not null,
    begin_date date not null,
    end_date   date,
    primary key (tenant_id, student_id, school_id)
);
create index on student_membership (tenant_id, school_id);

create table attendance_day (
    tenant_id        text        not null,
    student_id       uuid        not null,
    day              date        not null,
    school_year      text        not null,
    school_id        uuid        not null,
    category         text        not null,
    code             text        not null,
    attendance_id    uuid,                                          -- none: derived from the day's sections
    minutes_missed   int,
    arrival_time     time,
    said_at          timestamptz not null,                          -- marked_at or corrected_at, and the event
    said_by          uuid        not null,
    absence_event_id uuid,                                          -- StudentAbsent was published, once
    primary key (tenant_id, student_id, day)
) with (fillfactor = 85);
create index attendance_day_absent on attendance_day (tenant_id, student_id, school_year, day)
    where category in ('absent_excused', 'absent_unexcused');
create index on attendance_day (tenant_id, school_id, day) include (category);

create table attendance_section (
    tenant_id      text        not null,
    student_id     uuid        not null,
    day            date        not null,
    class_id       uuid        not null,                            -- the nil uuid when only a period is known
    period         text        not null,
    school_id      uuid        not null,
    category       text        not null,
    code           text        not null,
    attendance_id  uuid        not null,
    minutes_missed int,
    arrival_time   time,
    said_at        timestamptz not null,
    said_by        uuid        not null,
    primary key (tenant_id, student_id, day, class_id, period)
);
create index on attendance_section (tenant_id, student_id, attendance_id);

create table student_attendance_ytd (
    tenant_id    text    not null,
    student_id   uuid    not null,
    school_year  text    not null,
    school_id    uuid,                                              -- the rest is null until enrolment and calendar
    days_enrolled int,                                              -- are known
    days_absent  int,
    rate         numeric(6, 5),
    as_of        date,
    primary key (tenant_id, student_id, school_year)
) with (fillfactor = 60);

create table attendance_threshold (
    tenant_id     text    not null,
    student_id    uuid    not null,
    school_year   text    not null,
    threshold     text    not null check (threshold in ('at_risk_5', 'chronic_10', 'severe_20')),
    school_id     uuid    not null,
    as_of         date    not null,
    days_enrolled int     not null,
    days_absent   int     not null,
    rate          numeric(6, 5) not null,
    retracted_at  timestamptz,
    primary key (tenant_id, student_id, school_year, threshold)
);
create table attendance_audit (
    tenant_id     text        not null,
    student_id    uuid        not null,
    attendance_id uuid        not null,
    corrected_at  timestamptz not null,
    day           date        not null,
    old_code      text        not null,
    new_code      text        not null,
    new_category  text        not null,
    reason        text        not null,
    corrected_by  uuid        not null,
    event_key     uuid        not null,
    primary key (tenant_id, student_id, attendance_id, corrected_at, event_key)
);
create table absence_notices (
    tenant_id    text not null,
    student_id   uuid not null,
    day          date not null,
    event_key    uuid not null,
    retracted_at timestamptz,
    primary key (tenant_id, student_id, day)
);
create table truancy_cases (
    tenant_id        text not null,
    student_id       uuid not null,
    first_day        date not null,
    last_day         date not null,
    days             int  not null,
    contact_attempts int  not null default 0,
    primary key (tenant_id, student_id, first_day)
);
create table chronic_absence_status (
    tenant_id   text not null,
    student_id  uuid not null,
    school_year text not null,
    tier        text not null,
    since       date not null,
    primary key (tenant_id, student_id, school_year)
);
create table student_alerts (
    tenant_id   text        not null,
    alert_id    uuid        not null,
    student_id  uuid        not null,
    kind        text        not null,
    severity    text        not null,
    detail      text        not null,
    raised_at   timestamptz not null,
    resolved_at timestamptz,
    primary key (tenant_id, alert_id)
);
create index on student_alerts (tenant_id, student_id) where resolved_at is null;

-- The school's day, as the aggregation queue keeps it.
create table school_attendance_daily (
    tenant_id  text not null,
    school_id  uuid not null,
    day        date not null,
    present    int  not null,
    absent     int  not null,
    unexcused  int  not null,
    tardy      int  not null,
    other      int  not null,
    primary key (tenant_id, school_id, day)
);
