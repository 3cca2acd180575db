-- The only way to a network outside: payments and anchors wait here, and what is signed is kept before it leaves.

create table payments (
    -- Keccak-256 of run, step and key.
    id text primary key check (id ~ '^0x[0-9a-f]{64}$'),
    task_uid text not null references tasks (uid),
    step text not null,
    network text not null,
    -- The token's contract; null of the network's own coin. In the smallest unit.
    token text,
    amount numeric(78) not null check (amount > 0),
    -- All of it, as it stands in the attempt's launch.
    terms jsonb not null,
    at timestamptz not null
);
create index payments_task on payments (task_uid);
comment on table payments is 'What sandboxes asked to be paid; append-only.';
create trigger payments_append_only before update or delete on payments
    for each row execute function refuse_change();
create trigger payments_no_truncate before truncate on payments
    for each statement execute function refuse_change();

create table anchors (
    id bigint generated always as identity primary key,
    network text not null,
    size bigint not null references log_checkpoints (size),
    -- SHA-256 of what is signed in the checkpoint.
    digest bytea not null check (length(digest) = 32),
    at timestamptz not null,
    unique (network, size)
);
comment on table anchors is 'Which checkpoints are to be seen outside; append-only.';
create trigger anchors_append_only before update or delete on anchors
    for each row execute function refuse_change();
create trigger anchors_no_truncate before truncate on anchors
    for each statement execute function refuse_change();

create table outbox (
    id bigint generated always as identity primary key,
    network text not null,
    payment text unique references payments (id),
    anchor bigint unique references anchors (id),
    check (num_nonnulls(payment, anchor) = 1),
    -- Of a payment: the attempt that waits for it.
    attempt text references attempts (key),
    check ((payment is null) = (attempt is null)),
    -- Whether a person wants it done although that attempt has ended.
    revived boolean not null default false,
    -- How often it was begun again after it had ended for nothing.
    round integer not null default 0,
    state text not null default 'Waiting' check (state in ('Waiting', 'Submitted', 'Confirmed', 'Refused', 'Dead')),
    tries integer not null default 0,
    next_try timestamptz not null default now(),
    last_error text,
    transaction text,
    -- The block or tick.
    place bigint,
    -- By the network's clock.
    confirmed_at timestamptz,
    fee numeric(78),
    evidence bytea,
    ended_at timestamptz,
    check ((state in ('Confirmed', 'Refused', 'Dead')) = (ended_at is not null)),
    check ((state = 'Confirmed') = (transaction is not null)),
    check ((state = 'Confirmed') = (confirmed_at is not null)),
    check ((state = 'Confirmed') = (evidence is not null))
);
create index outbox_due on outbox (network, next_try, id) where state in ('Waiting', 'Submitted');
create index outbox_ended on outbox (ended_at) where ended_at is not null;
comment on table outbox is 'What is to be done on networks outside, and how it stands.';

-- What is confirmed stays as it is.
create function refuse_after_confirmed() returns trigger language plpgsql as $$
begin
    if old.state = 'Confirmed' then
        raise exception 'it is confirmed: this change is refused' using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger outbox_confirmed before update on outbox for each row execute function refuse_after_confirmed();
create trigger outbox_keep before delete on outbox for each row execute function refuse_change();
create trigger outbox_no_truncate before truncate on outbox for each statement execute function refuse_change();

create table nonces (
    -- CAIP-10: eip155:CHAIN:ADDRESS.
    account text not null,
    nonce bigint not null check (nonce >= 0),
    -- Null where it was given back: nothing was ever signed with it.
    outbox bigint references outbox (id),
    at timestamptz not null,
    primary key (account, nonce)
);
create index nonces_outbox on nonces (outbox);
comment on table nonces is 'Whose each nonce of an account is: no two are ever signed for different things.';
create trigger nonces_keep before delete on nonces for each row execute function refuse_change();
create trigger nonces_no_truncate before truncate on nonces for each statement execute function refuse_change();

create table submissions (
    id bigint generated always as identity primary key,
    outbox bigint not null references outbox (id),
    round integer not null,
    account text,
    nonce bigint,
    foreign key (account, nonce) references nonces (account, nonce),
    -- What leaves, byte for byte.
    body bytea not null,
    transaction text not null,
    max_fee numeric(39),
    tip numeric(39),
    place bigint,
    at timestamptz not null,
    unique (outbox, transaction)
);
create index submissions_nonce on submissions (account, nonce);
comment on table submissions is 'What was signed, kept before it left; append-only.';
create trigger submissions_append_only before update or delete on submissions
    for each row execute function refuse_change();
create trigger submissions_no_truncate before truncate on submissions
    for each statement execute function refuse_change();

-- A nonce with which something was signed stays with what it was signed for.
create function refuse_signed_nonce() returns trigger language plpgsql as $$
begin
    if new.outbox is distinct from old.outbox
       and exists (select from submissions s where s.account = old.account and s.nonce = old.nonce) then
        raise exception 'something was signed with this nonce: this change is refused'
            using errcode = 'restrict_violation';
    end if;
    return new;
end $$;
create trigger nonces_signed before update on nonces for each row execute function refuse_signed_nonce();
