-- Notifications: what is said to whom by which channel, and what became of it.

-- A delivery only moves up, whoever tells of it and in whatever order. `stopped`: nobody knows whether it arrived, and
-- its template says that a person decides.
create function delivery_rank(status text) returns int language sql immutable parallel safe as $$
    select case status when 'waiting' then 0 when 'sending' then 1 when 'ambiguous' then 2 when 'stopped' then 3
                       when 'dropped' then 3 when 'expired' then 3 when 'sent' then 4 when 'delivered' then 5
                       when 'failed' then 6 when 'bounced' then 7 end
$$;
create function address_hash(address text) returns text language sql immutable parallel safe as $$
    select encode(sha256(convert_to(lower(address), 'UTF8')), 'hex')
$$;

-- One notification to one person by one channel. `sending` is committed before the provider is called: a row found so by
-- a later run is one whose call may have been made.
create table notification_deliveries (
    tenant_id           text        not null,
    delivery_id         uuid        not null,
    notification_id     uuid        not null,
    recipient_id        uuid        not null,
    owner               text        check (owner in ('user', 'guardian', 'address')),  -- null: only heard of by an event
    channel             text        not null,
    template            text,                                       -- null: content was given
    subject_id          uuid,                                       -- the row that the template is rendered from
    content             jsonb,                                      -- variables or text that were given; gone once sent
    falls_back          boolean     not null default false,         -- another channel may be tried
    priority            int         not null default 5,
    status              text        not null default 'waiting' check (delivery_rank(status) is not null),
    reason              text,                                       -- why it was dropped or failed: a code
    provider            text,
    provider_message_id text,
    address_hash        text,
    sends               int         not null default 0,             -- calls begun; the second one may be a duplicate
    segments            int,
    price               numeric,
    ordered_at          timestamptz not null,
    expires_at          timestamptz,
    sending_at          timestamptz,
    sent_at             timestamptz,
    primary key (tenant_id, delivery_id)
) with (fillfactor = 80);
create index on notification_deliveries (tenant_id, notification_id, recipient_id);
create index on notification_deliveries (tenant_id, ordered_at);
create index on notification_deliveries (delivery_id);               -- webhooks know nothing else

-- A push goes to every device of a person; what each provider call said.
create table push_receipts (
    tenant_id           text        not null,
    delivery_id         uuid        not null,
    device_token_id     uuid        not null,
    result              text        not null,
    provider_message_id text        not null,
    at                  timestamptz not null,
    primary key (tenant_id, delivery_id, device_token_id)
);
create table device_tokens (
    tenant_id       text        not null,
    user_id         uuid        not null,
    device_token_id uuid        not null,
    token           text        not null,
    registered_at   timestamptz not null,
    revoked_at      timestamptz,
    primary key (tenant_id, user_id, device_token_id)
);

create table channel_status (
    tenant_id        text    not null,
    recipient_id     uuid    not null,
    channel          text    not null,
    valid            boolean not null default true,
    last_verified_at timestamptz,
    primary key (tenant_id, recipient_id, channel)
);
-- Addresses to which nothing is sent, whoever they belong to.
create table suppression_list (
    tenant_id    text        not null,
    channel      text        not null,
    address_hash text        not null,
    reason       text        not null,
    since        timestamptz not null,
    lifted_at    timestamptz,
    primary key (tenant_id, channel, address_hash)
);
create table email_bounces (
    tenant_id    text        not null,
    recipient_id uuid        not null,
    delivery_id  uuid        not null,
    bounce_class text        not null,
    bounced_at   timestamptz not null,
    primary key (tenant_id, recipient_id, delivery_id)
);
create table registrar_tasks (
    tenant_id   text        not null,
    task_id     uuid        not null,
    kind        text        not null,
    subject_id  uuid        not null,
    raised_at   timestamptz not null,
    resolved_at timestamptz,
    primary key (tenant_id, task_id)
);
-- Nothing more can be done by machine: a person must act.
create table notification_escalations (
    tenant_id       text        not null,
    notification_id uuid        not null,
    recipient_id    uuid        not null,
    reason          text        not null,
    raised_at       timestamptz not null,
    resolved_at     timestamptz,
    primary key (tenant_id, notification_id, recipient_id)
);
create table notification_stats_daily (
    tenant_id text not null,
    day       date not null,                                        -- UTC, of the order
    channel   text not null,
    template  text not null,                                        -- '': content was given
    ordered   int  not null,
    sent      int  not null,
    delivered int  not null,
    failed    int  not null,
    bounced   int  not null,
    dropped   int  not null,
    primary key (tenant_id, day, channel, template)
);

-- 34 CFR 99.30 and, of SMS, 47 U.S.C. 227. The nil guardian: given by the student.
create table consents (
    tenant_id    text        not null,
    student_id   uuid        not null,
    guardian_id  uuid        not null,
    scope        text        not null,
    decision     text        not null check (decision in ('granted', 'revoked')),
    effective_at timestamptz not null,
    expires_at   timestamptz,
    said_by      uuid        not null,
    primary key (tenant_id, student_id, guardian_id, scope)
);
create index on consents (tenant_id, guardian_id) where scope = 'sms';
create table consents_history (
    tenant_id    text        not null,
    consent_id   uuid        not null,
    student_id   uuid        not null,
    guardian_id  uuid        not null,
    scope        text        not null,
    decision     text        not null,
    effective_at timestamptz not null,
    expires_at   timestamptz,
    evidence_ref text        not null,
    primary key (tenant_id, consent_id)
);

alter table notification_preferences
    add column categories  jsonb not null default '{}',
    add column quiet_start time,
    add column quiet_end   time,
    add column quiet_zone  text;

create index user_profiles_roles on user_profiles using gin (roles jsonb_path_ops);

-- Status reports of providers that were taken: a replayed one takes no effect.
create table webhook_seen (
    provider text        not null,
    event_id text        not null,
    seen_at  timestamptz not null default clock_timestamp(),
    primary key (provider, event_id)
);
create index on webhook_seen (seen_at);
