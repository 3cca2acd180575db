-- The brokers that live, and by their fingerprints what each has of the Secrets that it was given.

create table brokers (
    -- Of the process, made when it starts.
    id text primary key,
    -- By the Secret's name: HMAC-SHA-256 of its content, with a key that only the brokers have.
    fingerprints jsonb not null,
    seen_at timestamptz not null default now()
);
comment on table brokers is 'Each broker tells so every few seconds; one that has not for long counts for nothing.';
