-- Reports, registers, archives and risk scores: what the slower queues keep.

-- A file that was made. Its row is written once; who asks for the same id again gets the same file.
create table reports (
    tenant_id    text   not null,
    report_id    uuid   not null,
    kind         text   not null,
    format       text   not null check (format in ('pdf', 'xlsx', 'csv')),
    params       jsonb  not null,
    language     text   not null,
    requested_by uuid   not null,
    student_id   uuid,                                              -- when it is about one
    job_id       uuid   not null,
    object_key   text   not null,
    sha256       text   not null,
    size         bigint not null,
    pages        int,
    contains_pii boolean not null,
    expires_at   timestamptz not null,
    primary key (tenant_id, report_id)
);

-- What ReportGenerated says, for the pages that list files.
create table report_artifacts (
    tenant_id    text    not null,
    report_id    uuid    not null,
    kind         text    not null,
    format       text    not null,
    requested_by uuid    not null,
    storage_key  text    not null,
    sha256       text    not null,
    size         bigint  not null,
    pages        int,
    contains_pii boolean not null,
    expires_at   timestamptz not null,
    said_at      timestamptz not null,                              -- event time and key: the last writer wins
    said_by      uuid    not null,
    primary key (tenant_id, report_id)
);

-- 34 CFR 300.614 asks who saw a record, when and why. Append-only; the chain-sealer numbers and hashes its rows.
create table ferpa_access_log (
    tenant_id      text        not null,
    access_id      uuid        not null,
    student_id     uuid,                                            -- null: a file about several
    actor_id       uuid        not null,
    actor_role     text        not null,
    record_type    text        not null,
    purpose        text,
    source_ip_hash text,
    accessed_at    timestamptz not null,
    primary key (tenant_id, access_id)
);
create index on ferpa_access_log (tenant_id, accessed_at);
create index on ferpa_access_log (tenant_id, student_id, accessed_at);

-- 34 CFR 99.32(a): parties and their interest, kept as long as the record itself. No row ever changes or leaves.
create table ferpa_disclosures (
    tenant_id           text        not null,
    disclosure_id       uuid        not null,
    student_id          uuid        not null,
    recipient_party     text        not null,
    recipient_type      text        not null,
    legitimate_interest text        not null,
    records             text[]      not null,
    exception_cite      text,
    further_parties     text[]      not null default '{}',
    disclosed_by        uuid        not null,
    disclosed_at        timestamptz not null,
    primary key (tenant_id, disclosure_id)
);
create index on ferpa_disclosures (tenant_id, disclosed_at);
create trigger append_only before update or delete on ferpa_disclosures for each row execute function refuse_change();

-- While one stands, nothing it names leaves: 34 CFR 99.10(e). Null: every student, every kind of row.
create table legal_holds (
    tenant_id   text        not null,
    hold_id     uuid        not null,
    student_id  uuid,
    entity      text,
    reason      text        not null,
    placed_at   timestamptz not null,
    released_at timestamptz,
    primary key (tenant_id, hold_id)
);
create index legal_holds_open on legal_holds (tenant_id, student_id) where released_at is null;

-- A register as it stood when it was drawn up: what the report shows and an auditor asks about.
create table compliance_register (
    tenant_id text  not null,
    kind      text  not null,
    period    text  not null,                                       -- "2022-05", "2021-2022"
    school_id uuid  not null,                                       -- the nil uuid: all schools
    n         int   not null,
    facts     jsonb not null,
    primary key (tenant_id, kind, period, school_id, n)
);

-- Interventions' BehaviorIncidentHandler will fill it; read for early warning.
create table behavior_incidents (
    tenant_id    text        not null,
    student_id   uuid        not null,
    incident_id  uuid        not null,
    school_id    uuid        not null,
    occurred_at  timestamptz not null,
    behavior     text        not null,
    severity     text        not null,
    location     text,
    action       text,
    removal_days numeric,
    reported_by  uuid        not null,
    primary key (tenant_id, student_id, incident_id)
);
create index on behavior_incidents (tenant_id, student_id, occurred_at);

-- A tenant's own thresholds of the early-warning score; without a row the published ones hold (rules/early_warning.py).
create table risk_models (
    tenant_id       text    not null primary key,
    version         text    not null,
    absence_some    numeric not null, absence_much    numeric not null,     -- shares of the enrolled days
    incidents_some  int     not null, incidents_many  int     not null,
    gpa_fair        numeric not null, gpa_low         numeric not null,     -- below
    failing_some    int     not null, failing_many    int     not null,
    tier_2          int     not null, tier_3          int     not null      -- points
);
-- A student's score now. The row is also the lock of who computes it.
create table student_risk (
    tenant_id         text not null,
    student_id        uuid not null,
    model_version     text not null default '',
    window_end        date,
    tier              int  not null default 1,
    score             int  not null default 0,
    attendance_points int  not null default 0,
    behavior_points   int  not null default 0,
    course_points     int  not null default 0,
    reasons           text[] not null default '{}',
    primary key (tenant_id, student_id)
) with (fillfactor = 70);

-- Rows that left, or are to leave, for the store. An archive is made part by part, verified, then its rows may go.
create table archives (
    tenant_id       text        not null,
    archive_id      uuid        not null,
    entity          text        not null,
    school_id       uuid,
    since           timestamptz,                                    -- rows of [since, cutoff)
    cutoff          date        not null,
    removes         boolean     not null,                           -- whether its rows leave the database
    row_count       bigint,
    manifest_key    text,
    manifest_sha256 text,
    manifest_size   bigint,
    completed_at    timestamptz,
    verified_at     timestamptz,
    removed_at      timestamptz,
    primary key (tenant_id, archive_id)
);
create table archive_parts (
    tenant_id    text   not null,
    archive_id   uuid   not null,
    part         int    not null,
    object_key   text   not null,
    sha256       text   not null,
    size         bigint not null,
    row_count    int    not null,
    last         jsonb  not null,                                   -- the part's last row: the next one begins behind it
    removed_at   timestamptz,
    removed_rows int,                                               -- the others had changed, or are held
    primary key (tenant_id, archive_id, part)
);
-- What ArchiveCompleted says.
create table archive_manifests (
    tenant_id    text    not null,
    archive_id   uuid    not null,
    entity       text    not null,
    cutoff_date  date    not null,
    bucket       text    not null,
    storage_keys text[]  not null,
    row_count    bigint  not null,
    sha256       text    not null,
    manifest_key text    not null,
    verified     boolean not null default false,
    primary key (tenant_id, archive_id)
);
create index on attendance_audit (tenant_id, corrected_at);
create index on grade_audit (tenant_id, graded_at);
