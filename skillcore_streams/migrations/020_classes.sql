-- Classes and who teaches them, people who care for a student: read by gradebook, special programs and compliance.

create table classes (
    tenant_id  text   not null,
    class_id   uuid   not null,
    version    int    not null default 0,                           -- of ClassUpdated; ClassCreated is version 0
    sourced_id text   not null,
    course_id  uuid   not null,
    school_id  uuid   not null,
    term_ids   uuid[] not null,
    title      text   not null,
    class_type text   not null,
    periods    text[] not null,
    grades     text[] not null,
    primary key (tenant_id, class_id)
);
create index on classes (tenant_id, school_id);

-- OneRoster's Enrollment of a teacher. The same person may be assigned to a class twice, one after the other.
create table class_staff (
    tenant_id     text        not null,
    assignment_id uuid        not null,
    class_id      uuid        not null,
    teacher_id    uuid        not null,
    role          text        not null,
    begin_date    date        not null,
    end_date      date,
    said_at       timestamptz not null,                             -- event time and key: the last writer wins
    said_by       uuid        not null,
    primary key (tenant_id, assignment_id)
);
create index on class_staff (tenant_id, class_id);
create index on class_staff (tenant_id, teacher_id);

create table guardians (
    tenant_id       text not null,
    guardian_id     uuid not null,
    version         int  not null,
    emergency_order int,
    language        text,
    primary key (tenant_id, guardian_id)
);
create table guardian_students (
    tenant_id    text    not null,
    guardian_id  uuid    not null,
    student_id   uuid    not null,
    version      int     not null,
    relationship text    not null,
    custody      text    not null,
    current      boolean not null default true,                     -- false: a newer version no longer names the student
    primary key (tenant_id, guardian_id, student_id)
);
create index on guardian_students (tenant_id, student_id);

-- Asked before every send: a guardian whose custody is restricted hears nothing about the student.
create table recipient_blocks (
    tenant_id   text    not null,
    guardian_id uuid    not null,
    student_id  uuid    not null,
    version     int     not null,
    blocked     boolean not null,
    primary key (tenant_id, guardian_id, student_id)
);
