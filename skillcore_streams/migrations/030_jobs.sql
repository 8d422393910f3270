-- The job engine. A job is a row that never changes; where it stands is which of four small tables holds its id:
--
--     later ──► ready ──► lease ──► finished          suspect: was running when its worker was lost; it is tried alone
--       ▲         ▲         │
--       └─────────┴─────────┴────► dead_letter        hold: waits behind an earlier call of its key
--
-- Waiting work is deleted when it is claimed and a claim is deleted when it is finished, so the hot tables stay as small
-- as the work that waits. Three functions move ids: claim_jobs, finish_jobs, release_jobs. Postgres' clock judges all.

alter table job rename to job_before;
alter index job_pkey rename to job_before_pkey;

create table job (
    id             uuid        primary key,
    tenant_id      text        not null,
    queue          text        not null,
    kind           text        not null,                            -- of a failed call: the handler's id
    payload        text        not null,                            -- JSON
    priority       int         not null check (priority between 0 and 2097151),  -- 0 first of all, then 1, 2 ...
    max_attempts   int         not null check (max_attempts > 0),   -- starts in all
    options        jsonb,                                           -- backoff, timeout; null: the queue's
    expires_at     timestamptz,                                     -- not to be started after
    dedup_key      text,
    hold_key       text,                                            -- calls of one key run in the order of hold_seq
    hold_seq       bigint,
    event_key      uuid,                                            -- the cause
    correlation_id text        not null,
    causation_id   text,
    actor_id       text,
    topic          text,                                            -- of a job that came by Kafka
    partition      int,
    record_offset  bigint,
    created_at     timestamptz not null default clock_timestamp()
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
create index job_event_key on job (event_key) where event_key is not null;

-- Ids that somebody chose (an occasion, a record's id): dropped when they come again, however long the job itself is kept.
create table job_seen (
    id      uuid        primary key,
    seen_at timestamptz not null default clock_timestamp()
);

create table queue (
    name         text        primary key,
    paused_at    timestamptz,
    paused_by    text,
    window_start timestamptz,                                       -- of the rate limit: so many starts a window
    window_count int         not null default 0
) with (fillfactor = 20);

-- Fairness and the way past what was claimed already, a row for each queue and priority. `v` is the virtual time: about
-- the tag of what was claimed last. Nothing waits below `head`, so a claim need not look there, however many deleted
-- rows an open snapshot keeps from being cleaned up.
create table level (
    queue     text        not null,
    priority  int         not null,
    v         bigint      not null default 0,
    head      bigint      not null default 0,
    next_head bigint      not null default 0,
    next_xid  xid8        not null default '0',                     -- who began before it may still write below next_head
    moved_at  timestamptz not null default clock_timestamp(),
    primary key (queue, priority)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- What a flow waits in. One expression, so that its index can't be mistaken for the one by priority. The cast matters:
-- text || int is only stable, so Postgres would not inline the function and would call it for each row it indexes.
create function line(queue text, priority int, flow text) returns text language sql immutable parallel safe as
    $$ select queue || '/' || priority::text || '/' || flow $$;

create table ready (
    job_id   uuid   primary key,
    queue    text   not null,
    priority int    not null,
    tag      bigint not null,                                       -- order inside a priority: start-time fair queueing
    flow     text   not null,                                       -- the tenant: flows of a priority take turns
    attempts int    not null,                                       -- starts spent
    coalesce_key text                                               -- what waits under one key is done by one run
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
create index ready_order on ready (queue, priority, tag);
create index ready_flow on ready (line(queue, priority, flow), tag);
create index ready_coalesce on ready (coalesce_key) where coalesce_key is not null;

create table later (
    job_id   uuid        primary key,
    queue    text        not null,
    priority int         not null,
    run_at   timestamptz not null,
    flow     text        not null,
    attempts int         not null,
    coalesce_key text
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index later_due on later (queue, run_at);

-- A claimed job, which is a started one: it belongs to a process as long as that sends its heartbeat and `until` has not
-- come. The token makes a claim unlike the one before.
create table lease (
    job_id     uuid        primary key,
    token      uuid        not null,
    queue      text        not null,
    priority   int         not null,
    flow       text        not null,
    attempts   int         not null,
    coalesce_key text,
    process    text        not null,
    alone      boolean     not null default false,                  -- a suspect, tried with nothing beside it
    cancelled  boolean     not null default false,                  -- somebody asked; its process looks once a second
    started_at timestamptz not null default clock_timestamp(),
    until      timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);

create index lease_queue on lease (queue);
create index lease_cancelled on lease (process) where cancelled;

create table suspect (
    job_id   uuid   primary key,
    queue    text   not null,
    priority int    not null,
    flow     text   not null,
    attempts int    not null,
    coalesce_key text
);

-- How jobs ended that did not fail: one row a batch.
create table finished (
    queue   text        not null,
    at      timestamptz not null,
    outcome text        not null check (outcome in ('completed', 'coalesced', 'expired', 'cancelled')),
    process text        not null,
    ids     uuid[]      not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
create index finished_at on finished (queue, at);

-- A failed start: when, where, why. Sentences without data.
create table attempt (
    job_id      uuid        not null,
    n           int         not null,
    failed_at   timestamptz not null default clock_timestamp(),
    worker      text        not null,
    error       text        not null,
    fingerprint text        not null,
    primary key (job_id, n)
);

-- Calls of `on_failure="hold"` handlers that wait or run, one after another for each key.
create table hold (
    key    text   not null,
    seq    bigint not null,
    job_id uuid   not null,
    primary key (key, seq, job_id)
);
create index hold_job on hold (job_id);

-- BullMQ's deduplication: further jobs of one key are dropped until the first has ended (until is null) or for a time.
create table dedup (
    queue  text        not null,
    key    text        not null,
    job_id uuid        not null,
    until  timestamptz,
    primary key (queue, key)
);
create index dedup_job on dedup (job_id);

create table job_log (
    job_id uuid        not null,
    at     timestamptz not null default clock_timestamp(),
    line   text        not null
);
create index on job_log (job_id, at);
create table job_progress (
    job_id   uuid        primary key,
    at       timestamptz not null default clock_timestamp(),
    progress jsonb       not null
);
create table job_result (
    job_id uuid  primary key,
    result jsonb not null
);


-- Put ids in line. A tag is 1000 above the flow's last one, and at least 1000 above what was claimed: so a flow with a
-- long backlog waits behind its own jobs, not in front of everybody's. `front`: before all others of the priority.
--
-- The order of the first two statements matters: a transaction that has its id reads `v` after it. See claim_jobs.
create function put_ready(ids uuid[], queues text[], priorities int[], flows text[], spent int[], keys text[],
                          front boolean) returns void language plpgsql as $$
begin
    perform pg_current_xact_id();
    insert into level (queue, priority)
        select distinct q, p from unnest(queues, priorities) u (q, p)
         where not exists (select from level l where l.queue = q and l.priority = p) order by 1, 2
        on conflict do nothing;
    with flows as materialized (
        select d.q, d.p, d.flow, l.v, greatest(l.v, (
                   select r.tag from ready r
                    where line(r.queue, r.priority, r.flow) = line(d.q, d.p, d.flow) and r.tag > l.v
                    order by r.tag desc limit 1)) as last
          from (select distinct q, p, flow from unnest(queues, priorities, flows) u (q, p, flow)) d
          join level l on l.queue = d.q and l.priority = d.p
    )
    insert into ready (job_id, queue, priority, tag, flow, attempts, coalesce_key)
    select ids[n], f.q, f.p,
           case when front then f.v else f.last + 1000 * row_number() over (partition by f.q, f.p, f.flow order by n) end,
           f.flow, spent[n], keys[n]
      from generate_series(1, cardinality(ids)) n
      join flows f on f.q = queues[n] and f.p = priorities[n] and f.flow = flows[n];
end $$;


-- Claim up to `want` jobs of a queue, in order of priority, then of tag; with a lease for each. Everything that limits a
-- queue is decided here, under the lock of its row: pause, jobs running over all workers, starts in a window of time.
-- `stamp` becomes the token of the leases. The claimer chooses it: if the answer gets lost, it can give them back by it.
--
-- How `head` moves: `next_head` is a value of `v` that was committed before `next_xid` was taken. Whoever got its
-- transaction id later read that `v` or a later one, and writes above it; whoever got it earlier has ended once
-- `next_xid` lies behind all running transactions. If then nothing is left below, nothing will ever be.
create function claim_jobs(q text, want int, claimer text, lease_seconds float8, max_running int, rate int,
                           rate_seconds float8, stamp uuid)
returns table (id uuid, token uuid, tenant_id text, kind text, payload text, attempts int, max_attempts int,
               options jsonb, expired boolean, coalesce_key text, held boolean, dedup boolean, event_key uuid,
               correlation_id text, causation_id text, actor_id text, created_at timestamptz)
language plpgsql as $$
declare
    s      queue;
    l      level;
    now_   timestamptz := clock_timestamp();
    room   int := want;
    taken  uuid[];
    mine   uuid[] := '{}';
    lowest bigint; highest bigint;
    behind xid8;
    ahead  xid8;
begin
    if not exists (select from level x where x.queue = q and exists (     -- an idle look ends here, without a lock
            select from ready r where r.queue = q and r.priority = x.priority and r.tag >= x.head)) then
        return;
    end if;
    select * into s from queue where name = q for no key update;
    if s.paused_at is not null then
        return;
    end if;
    if max_running is not null then
        room := least(room, max_running - (select count(*) from lease e where e.queue = q)::int);
    end if;
    if rate is not null then
        if s.window_start is null or now_ >= s.window_start + make_interval(secs => rate_seconds) then
            s.window_start := now_;
            s.window_count := 0;
        end if;
        room := least(room, rate - s.window_count);
    end if;

    for l in select * from level x where x.queue = q order by x.priority loop
        exit when room <= 0;
        behind := pg_snapshot_xmin(pg_current_snapshot());
        ahead := pg_snapshot_xmax(pg_current_snapshot());
        with gone as (
            delete from ready r where r.ctid = any (array(
                select w.ctid from ready w where w.queue = q and w.priority = l.priority and w.tag >= l.head
                 order by w.tag limit room))
            returning r.*
        ), leased as (
            insert into lease (job_id, token, queue, priority, flow, attempts, coalesce_key, process, until)
            select g.job_id, stamp, q, g.priority, g.flow, g.attempts, g.coalesce_key, claimer,
                   now_ + make_interval(secs => lease_seconds)
              from gone g
        )
        select array_agg(g.job_id order by g.tag), min(g.tag), max(g.tag) into taken, lowest, highest from gone g;

        if now_ > l.moved_at + interval '20 ms' and (highest > l.v or l.head < l.v) then
            if behind >= l.next_xid and (lowest is null or lowest >= l.next_head) then
                update level x set v = greatest(l.v, highest), head = l.next_head, next_head = l.v, next_xid = ahead,
                                   moved_at = now_
                 where x.queue = q and x.priority = l.priority;
            elsif highest > l.v then
                update level x set v = highest, moved_at = now_ where x.queue = q and x.priority = l.priority;
            end if;
        end if;
        if taken is not null then
            mine := mine || taken;
            room := room - cardinality(taken);
        end if;
    end loop;

    if rate is not null and cardinality(mine) > 0 then
        update queue set window_start = s.window_start, window_count = s.window_count + cardinality(mine) where name = q;
    end if;
    return query
        select j.id, stamp, j.tenant_id, j.kind, j.payload, e.attempts, j.max_attempts, j.options, j.expires_at < now_,
               e.coalesce_key, j.hold_key is not null, j.dedup_key is not null, j.event_key, j.correlation_id,
               j.causation_id, j.actor_id, j.created_at
          from unnest(mine) with ordinality u (id, n) join lease e on e.job_id = u.id join job j on j.id = u.id
         order by u.n;
end $$;


-- End claims of ours: the jobs are done. What is no longer ours is not in the answer; a job's own transaction rolls back
-- when it finds itself missing.
create function finish_jobs(ids uuid[], tokens uuid[], how text, claimer text) returns uuid[] language plpgsql as $$
declare
    done uuid[];
begin
    with gone as (
        delete from lease e using unnest(ids, tokens) u (id, token) where e.job_id = u.id and e.token = u.token
        returning e.job_id, e.queue
    ), noted as (
        insert into finished (queue, at, outcome, process, ids)
        select g.queue, clock_timestamp(), how, claimer, array_agg(g.job_id) from gone g group by g.queue
    )
    select coalesce(array_agg(job_id), '{}') into done from gone;
    return done;
end $$;


-- End claims of ours without their being done: back in line. A wait of null puts a job in front (it was not begun or it
-- is nobody's fault), 0 at the tail, more of it into `later`. `spent` is the number of starts charged so far. What
-- somebody asked to be cancelled meanwhile has ended instead.
create function release_jobs(ids uuid[], tokens uuid[], waits float8[], spent int[]) returns uuid[]
language plpgsql as $$
declare
    f record;
    gone_ uuid[] := '{}';
begin
    for f in
        with gone as (
            delete from lease e using unnest(ids, tokens, waits, spent) u (id, token, wait, spent)
             where e.job_id = u.id and e.token = u.token
            returning e.job_id, e.queue, e.priority, e.flow, u.spent, e.coalesce_key, u.wait, e.cancelled, e.process
        ), ended as (
            insert into finished (queue, at, outcome, process, ids)
            select g.queue, clock_timestamp(), 'cancelled', g.process, array_agg(g.job_id)
              from gone g where g.cancelled group by g.queue, g.process
        ), delayed as (
            insert into later (job_id, queue, priority, run_at, flow, attempts, coalesce_key)
            select g.job_id, g.queue, g.priority, clock_timestamp() + make_interval(secs => g.wait), g.flow, g.spent,
                   g.coalesce_key
              from gone g where g.wait > 0 and not g.cancelled
        )
        select g.cancelled, g.wait is null as front, coalesce(g.wait, 0) <= 0 as now, array_agg(g.job_id) as ids,
               array_agg(g.queue) as queues, array_agg(g.priority) as priorities, array_agg(g.flow) as flows,
               array_agg(g.spent) as spent, array_agg(g.coalesce_key) as keys
          from gone g group by 1, 2, 3
    loop
        gone_ := gone_ || f.ids;
        if f.cancelled then
            perform let_go(f.ids);
        elsif f.now then
            perform put_ready(f.ids, f.queues, f.priorities, f.flows, f.spent, f.keys, f.front);
        end if;
    end loop;
    return gone_;
end $$;


-- What has come due gets in line, at the tail. Of jobs that wait under one key only the first goes on: one run does the
-- work of all. Looks ten minutes back, past what open snapshots keep from being cleaned up; `all_of_it` looks further.
create function promote_jobs(q text, most int, all_of_it boolean) returns int language plpgsql as $$
declare
    f record;
begin
    with due as (
        delete from later x where x.ctid = any (array(
            select w.ctid from later w
             where w.queue = q and w.run_at <= clock_timestamp()
               and w.run_at > case when all_of_it then '-infinity' else clock_timestamp() - interval '10 min' end
             order by w.run_at limit most for update skip locked))
        returning x.*
    ), ranked as (
        select d.*, d.coalesce_key is not null and (
                   row_number() over (partition by d.coalesce_key order by d.run_at, d.job_id) > 1
                   or exists (select from ready r where r.coalesce_key = d.coalesce_key)) as done_by_another
          from due d
    ), coalesced as (
        insert into finished (queue, at, outcome, process, ids)
        select q, clock_timestamp(), 'coalesced', '', array_agg(job_id) from ranked where done_by_another having count(*) > 0
    )
    select array_agg(job_id order by run_at, job_id) as ids, array_agg(queue) as queues,
           array_agg(priority order by run_at, job_id) as priorities, array_agg(flow order by run_at, job_id) as flows,
           array_agg(attempts order by run_at, job_id) as spent,
           array_agg(coalesce_key order by run_at, job_id) as keys
      into f from ranked where not done_by_another;
    if f.ids is not null then
        perform put_ready(f.ids, f.queues, f.priorities, f.flows, f.spent, f.keys, false);
    end if;
    return coalesce(cardinality(f.ids), 0);
end $$;


-- Insert jobs, in order. An id that somebody chose and that was here before is dropped. Returns what was new.
create function enqueue_jobs(ids uuid[], chosen boolean[], tenants text[], queues text[], kinds text[], payloads text[],
                             priorities int[], delays float8[], spent int[], tries int[], in_line boolean[],
                             options_ jsonb[], expires timestamptz[], keys text[], dedups text[], holds text[],
                             seqs bigint[], events uuid[], correlations text[], causations text[], actors text[],
                             topic_ text, partition_ int, offsets bigint[]) returns uuid[] language plpgsql as $$
declare
    fresh uuid[] := ids;
    all_of_them boolean;
    f     record;
begin
    if true = any (chosen) then
        with seen as (
            insert into job_seen (id) select u.id from unnest(ids, chosen) u (id, chosen) where u.chosen order by 1
            on conflict do nothing returning id
        )
        select array_agg(u.id) into fresh from unnest(ids, chosen) u (id, chosen)
         where not u.chosen or u.id in (select id from seen);
    end if;
    with made as (
        insert into job (id, tenant_id, queue, kind, payload, priority, max_attempts, options, expires_at, dedup_key, hold_key,
                         hold_seq, event_key, correlation_id, causation_id, actor_id, topic, partition, record_offset)
        select ids[n], tenants[n], queues[n], kinds[n], payloads[n], priorities[n], tries[n], options_[n], expires[n],
               dedups[n], holds[n], seqs[n], events[n], correlations[n], causations[n], actors[n], topic_, partition_,
               offsets[n]
          from generate_series(1, cardinality(ids)) n
         where cardinality(fresh) = cardinality(ids) or ids[n] = any (fresh)
        on conflict do nothing returning id
    )
    select coalesce(array_agg(id), '{}'), count(*) = cardinality(ids) into fresh, all_of_them from made;
    if all_of_them and true = all (in_line) and 0 >= all (delays) and array_remove(keys, null) = '{}' then
        perform put_ready(ids, queues, priorities, tenants, spent, keys, false);          -- the usual case, by the short way
        return fresh;
    end if;
    insert into later (job_id, queue, priority, run_at, flow, attempts, coalesce_key)
    select ids[n], queues[n], priorities[n], clock_timestamp() + make_interval(secs => delays[n]), tenants[n], spent[n],
           keys[n]
      from generate_series(1, cardinality(ids)) n
     where in_line[n] and (delays[n] > 0 or keys[n] is not null) and (all_of_them or ids[n] = any (fresh));
    select array_agg(ids[n] order by n) as ids, array_agg(queues[n] order by n) as queues,
           array_agg(priorities[n] order by n) as priorities, array_agg(tenants[n] order by n) as flows,
           array_agg(spent[n] order by n) as spent, array_fill(null::text, array[count(*)::int]) as keys
      into f
      from generate_series(1, cardinality(ids)) n
     where in_line[n] and delays[n] <= 0 and keys[n] is null and (all_of_them or ids[n] = any (fresh));
    if f.ids is not null then
        perform put_ready(f.ids, f.queues, f.priorities, f.flows, f.spent, f.keys, false);
    end if;
    return fresh;
end $$;


-- Jobs have ended, well or not: what waited behind them may go, and their deduplication keys are free. The lock of a key
-- is also taken by who adds a call to it or withdraws one: nobody is left waiting behind a call that is just ending.
create function let_go(ids uuid[]) returns void language plpgsql as $$
declare
    f record;
begin
    delete from dedup d where d.job_id = any (ids) and d.until is null;
    for f in with gone as (delete from hold h where h.job_id = any (ids) returning h.key)
             select distinct g.key from gone g order by g.key loop
        perform pg_advisory_xact_lock(hashtextextended(f.key, 1));
        perform put_ready(array[j.id], array[j.queue], array[j.priority], array[j.tenant_id], array[0],
                          array[null::text], false)
           from (select * from hold h where h.key = f.key order by h.seq, h.job_id limit 1) next
           join job j on j.id = next.job_id
          where not exists (select from ready where job_id = j.id) and not exists (select from later where job_id = j.id)
            and not exists (select from lease where job_id = j.id) and not exists (select from suspect where job_id = j.id);
    end loop;
end $$;


-- Which of these queues have something to claim or to promote now, and in how many seconds the next delayed job is due.
create function look_at_queues(names text[]) returns table (name text, due boolean, promote boolean, next_in float8)
language plpgsql as $$
begin
    return query
        select n.name,
               exists (select from level l where l.queue = n.name and exists (
                       select from ready r where r.queue = n.name and r.priority = l.priority and r.tag >= l.head)),
               coalesce(w.run_at <= clock_timestamp(), false), extract(epoch from w.run_at - clock_timestamp())::float8
          from unnest(names) n (name)
          left join lateral (select x.run_at from later x
                              where x.queue = n.name and x.run_at > clock_timestamp() - interval '10 min'
                              order by x.run_at limit 1) w on true;
end $$;


-- Plans are made once, and for tables that may hold a million rows: these swing between empty and full, and a plan made
-- while one was empty would read all of it later.
do $$
declare
    f regprocedure;
begin
    foreach f in array array(
        select oid::regprocedure from pg_proc where pronamespace = current_schema::regnamespace
           and proname in ('put_ready', 'claim_jobs', 'finish_jobs', 'release_jobs', 'promote_jobs', 'enqueue_jobs', 'let_go', 'look_at_queues'))
    loop
        execute format('alter function %s set plan_cache_mode = force_generic_plan set enable_seqscan = off '
                       'set enable_bitmapscan = off set enable_mergejoin = off', f);
    end loop;
end $$;


alter table dead_letter add column job_id uuid;
create index dead_letter_job on dead_letter (job_id) where job_id is not null;


-- A job as people see it: its facts and where it stands. For commands, health and tests; the engine does not read it.
create view job_now as
select j.*, case when e.job_id is not null then 'running'
                 when r.job_id is not null or s.job_id is not null then 'waiting'
                 when l.job_id is not null then 'delayed'
                 when d.id is not null then 'failed'
                 when h.job_id is not null then 'held'
                 else 'completed' end as state,
       coalesce(e.attempts + 1, r.attempts, s.attempts, l.attempts, case when h.job_id is null or d.id is not null then
                coalesce((select max(n) from attempt a where a.job_id = j.id), 0) + (d.id is null)::int end, 0) as attempts,
       l.run_at, e.process as worker, e.started_at, e.token as lease,
       coalesce(e.coalesce_key, r.coalesce_key, l.coalesce_key, s.coalesce_key) as coalesce_key,
       coalesce((select jsonb_agg(jsonb_build_object('n', n, 'at', failed_at, 'worker', worker, 'error', error) order by n)
                   from attempt a where a.job_id = j.id), '[]') as errors
  from job j
  left join lease e on e.job_id = j.id
  left join ready r on r.job_id = j.id
  left join suspect s on s.job_id = j.id
  left join later l on l.job_id = j.id
  left join dead_letter d on d.job_id = j.id and d.status <> 'retried'
  left join lateral (select job_id from hold where job_id = j.id limit 1) h on true;


-- What the small executor had, taken over: ids stay, and so does what each has spent. What was running runs again.
insert into job (id, tenant_id, queue, kind, payload, priority, max_attempts, hold_key, hold_seq, event_key, correlation_id,
                 causation_id, actor_id, created_at)
select id, tenant_id, queue, kind, payload::text, priority, max_attempts, hold_key, hold_seq, event_key, correlation_id,
       causation_id, actor_id, created_at
  from job_before;
insert into job_seen (id) select id from job_before;
insert into later (job_id, queue, priority, run_at, flow, attempts, coalesce_key)
select id, queue, priority, run_at, tenant_id, case when state = 'running' then attempts - 1 else attempts end, coalesce_key
  from job_before b
 where state in ('waiting', 'running')
   and (hold_key is null or not exists (
        select from job_before x where x.hold_key = b.hold_key and x.hold_seq < b.hold_seq and x.state in ('waiting', 'running')));
insert into hold (key, seq, job_id)
select hold_key, hold_seq, id from job_before where hold_key is not null and state in ('waiting', 'running');
insert into attempt (job_id, n, failed_at, worker, error, fingerprint)
select b.id, e.n, (e.entry->>'at')::timestamptz, e.entry->>'worker', e.entry->>'error', ''
  from job_before b, jsonb_array_elements(b.errors) with ordinality e (entry, n);
insert into finished (queue, at, outcome, process, ids)
select queue, max(finished_at), 'completed', '', array_agg(id) from job_before where state = 'completed' group by queue;
update dead_letter d set job_id = b.id from job_before b where b.state = 'failed' and d.event_key is not distinct from b.event_key
   and d.kind in ('call', 'job') and coalesce(d.handler, b.kind) = b.kind;
drop table job_before;
