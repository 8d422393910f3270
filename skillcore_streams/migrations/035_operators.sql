-- What operators see and do: jobs, queues, dead letters.

-- Since when a job has been in line: the age of the oldest is what an alert is about, whenever the job was created.
alter table ready add column since timestamptz not null default clock_timestamp();

-- How many jobs stand where, as counted last, and how long counting took. One worker counts for all; see backlog.py.
create table backlog (
    only_one   boolean     primary key default true check (only_one),
    counted_at timestamptz not null default '-infinity',
    took       float8      not null default 0,                      -- seconds
    figures    jsonb       not null default '{}'
) with (fillfactor = 20);
insert into backlog default values;

-- Who was told of a dead letter: `notice` is the job that logs it, tells operations and archives it, one for all letters
-- of a cause that came within some minutes. Null: nobody yet.
alter table dead_letter add column notice uuid;
create index dead_letter_untold on dead_letter (fingerprint, last_at) where notice is null;
alter table dead_letter add column settled_at timestamptz;         -- retried or discarded; forgotten after 30 days
create index dead_letter_settled on dead_letter (settled_at) where settled_at is not null;
create index dead_letter_told on dead_letter (notice) where notice is not null;
create index dead_letter_listed on dead_letter (last_at, id);
create index dead_letter_of_cause on dead_letter (fingerprint, status);
create table dead_letter_notice (
    fingerprint text        primary key,
    told_at     timestamptz not null
);

-- A record that leaves as it once came: its key may be no text or null, its headers may repeat or be no text, then they
-- are a list of [name, base64] as in dead_letter.
alter table outbox alter column key drop not null;
alter table outbox alter column value drop not null;
alter table outbox add column raw_key bytea;

create index operator_action_target on operator_action (target);
