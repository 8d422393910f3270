-- The tables a message passes on its way. Everything the runtime promises rests on these rows.

-- Where each partition stands. `next_offset` is the fence: a chunk commits only by moving it from its start to its end.
create table progress (
    topic                 text        not null,
    partition             int         not null,
    next_offset           bigint      not null check (next_offset >= 0),
    topic_id              uuid,                                     -- another id: the topic was recreated under us
    claims_since_progress int         not null default 0,           -- three without a commit: a record may kill its worker
    suspect               bigint,                                   -- offset of the record that was tried last, alone
    suspect_deaths        int         not null default 0,
    owner                 text,
    updated_at            timestamptz not null default clock_timestamp(),
    primary key (topic, partition)
) with (fillfactor = 50);

-- Every event key ever admitted. Kept 45 days: topic retention (7) + dead letters (30) + margin.
create table inbox (
    event_key uuid        not null primary key,                     -- uuid5(tenant, source, id)
    body_hash bytea       not null,                                 -- of type and raw value: a repeat or a conflict?
    stored_at timestamptz not null default now()
) partition by hash (event_key);

do $$ begin
    for n in 0..7 loop
        execute format('create table inbox_%s partition of inbox for values with (modulus 8, remainder %s)', n, n);
    end loop;
end $$;

-- The event store: what happened, in the bytes it was said in. Append-only; retention drops whole partitions.
create sequence event_seq;
create table event (
    seq            bigint      not null default nextval('event_seq'),
    tenant_id      text        not null,
    event_key      uuid        not null,
    id             text        not null,
    type           text        not null,
    source         text        not null,
    key            text        not null,
    time           timestamptz not null,
    stored_at      timestamptz not null default now(),
    topic          text        not null,
    partition      int         not null,
    record_offset  bigint      not null,
    correlation_id text        not null,
    causation_id   text,
    actor_id       text,
    extra          jsonb,                                           -- further CloudEvents attributes, traceparent
    data           bytea       not null                             -- JSON, as it came (legacy forms: as normalised)
) partition by range (stored_at);
create index on event (event_key);
create index on event (tenant_id, key, time);
create index on event (correlation_id);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only', tg_table_name using errcode = 'restrict_violation';
end $$;
create trigger append_only before update or delete on event for each row execute function refuse_change();
create trigger append_only_truncate before truncate on event for each statement execute function refuse_change();

-- A month a partition, a year ahead; what falls outside still has a place in the default one.
create table event_default partition of event default;
create function add_event_partitions(months int) returns void language plpgsql as $$
declare
    first date;
begin
    for n in 0..months loop
        first := date_trunc('month', now() at time zone 'utc')::date + make_interval(months => n);
        execute format('create table if not exists event_%s partition of event for values from (%L) to (%L)',
                       to_char(first, 'YYYYMM'), first || ' 00:00+00', (first + interval '1 month')::date || ' 00:00+00');
    end loop;
end $$;
select add_event_partitions(12);

-- What must leave for Kafka, in order per lane (the source's topic-partition, or a job's aggregate).
create table outbox (
    id           bigint      generated always as identity primary key,
    lane         text        not null,
    topic        text        not null,
    key          text        not null,
    headers      jsonb       not null,
    value        bytea       not null,
    created_at   timestamptz not null default clock_timestamp(),
    published_at timestamptz
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
create index outbox_waiting on outbox (lane, id) where published_at is null;
create table outbox_lease (
    lane  text        primary key,
    owner text        not null,
    until timestamptz not null
);

-- What could not be processed, with all that is needed to understand it and to try again.
create table dead_letter (
    id            uuid        primary key,
    tenant_id     text,                                             -- unknown when the envelope could not be read
    kind          text        not null check (kind in ('record', 'conflict', 'call', 'job')),
    handler       text,                                             -- of a call
    queue         text,                                             -- of a job
    event_key     uuid,
    fingerprint   text        not null,                             -- error class and top frames: groups what belongs together
    reason        text        not null,                             -- a redacted sentence
    attempts      jsonb       not null default '[]',                -- [{"at", "worker", "error"}]
    first_at      timestamptz not null,
    last_at       timestamptz not null default clock_timestamp(),
    topic         text,
    partition     int,
    record_offset bigint,
    key           bytea,
    headers       jsonb,                                            -- [[name, base64]]: names repeat in bad records
    value         bytea,
    status        text        not null default 'open' check (status in ('open', 'retried', 'discarded'))
);
create index on dead_letter (status, last_at);
create index on dead_letter (event_key);

-- Work that may wait, failed handler calls among it (queue `handler-calls`). The job engine takes these rows over.
create table job (
    id             uuid        primary key,
    tenant_id      text        not null,
    queue          text        not null,
    kind           text        not null,                            -- of a failed call: the handler's id
    payload        jsonb       not null,
    state          text        not null default 'waiting' check (state in ('waiting', 'running', 'completed', 'failed')),
    priority       int         not null default 0,                  -- 0 first, then 1..2097151
    run_at         timestamptz not null default clock_timestamp(),
    attempts       int         not null default 0,                  -- starts, recorded before the work begins
    max_attempts   int         not null default 5,
    coalesce_key   text,                                            -- waiting jobs of one key are done by one run
    hold_key       text,                                            -- calls of one key run in the order of hold_seq
    hold_seq       bigint,
    event_key      uuid,                                            -- the cause
    correlation_id text        not null,
    causation_id   text,
    actor_id       text,
    errors         jsonb       not null default '[]',               -- [{"at", "worker", "error"}]
    lease          uuid,
    leased_until   timestamptz,
    worker         text,
    created_at     timestamptz not null default clock_timestamp(),
    finished_at    timestamptz
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, fillfactor = 70);
create index job_due on job (queue, priority, run_at) where state = 'waiting';
create index job_coalesce on job (coalesce_key) where state in ('waiting', 'running') and coalesce_key is not null;
create index job_hold on job (hold_key, hold_seq) where hold_key is not null and state in ('waiting', 'running');
create index job_lease on job (leased_until) where state = 'running';
create index job_event on job (event_key);
create index job_finished on job (finished_at) where state in ('completed', 'failed');

-- One row a living worker: what `consumers` in /health/events counts.
create table worker (
    id         text        primary key,
    process    text        not null,                                -- id and a token of this start: owner of its leases
    app_id     text        not null,
    roles      text        not null,
    started_at timestamptz not null,
    seen_at    timestamptz not null,
    partitions int         not null default 0
);

-- What operators did by hand, and why.
create table operator_action (
    id     bigint      generated always as identity primary key,
    at     timestamptz not null default clock_timestamp(),
    actor  text        not null,
    action text        not null,
    target text        not null,
    reason text        not null,
    detail jsonb       not null default '{}'
);
