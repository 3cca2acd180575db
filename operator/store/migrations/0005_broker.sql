-- What sandboxes do beyond themselves: sessions with the broker, calls, and files that steps hand on.

alter table steps add column workspace text;

create table sessions (
    -- One use: a token is taken for a session once.
    attempt text primary key references attempts (key),
    -- SHA-256 of what the runner shows from then on.
    secret bytea not null unique check (length(secret) = 32),
    opened_at timestamptz not null default now(),
    calls integer not null default 0,
    -- Millionths of the budget's currency: what calls cost, and what those under way may cost at most.
    cost bigint not null default 0 check (cost >= 0),
    -- Of files that were kept for it.
    bytes bigint not null default 0
);
comment on table sessions is 'The one session that the broker gave each attempt, and what was done in it.';

create table calls (
    attempt text not null references sessions (attempt),
    number integer not null,
    method text not null,
    -- Without its query, which may hold what is nobody's business.
    url text not null,
    begun_at timestamptz not null,
    reserved bigint not null,
    outcome text,
    status integer,
    address text,
    sent bigint,
    received bigint,
    cost bigint,
    ended_at timestamptz,
    primary key (attempt, number),
    check ((outcome is null) = (ended_at is null))
);
comment on table calls is 'Every call that left the broker, written before its first byte did.';

create table files (
    digest text primary key,
    body bytea not null
);
create table kept (
    attempt text not null references sessions (attempt),
    digest text not null references files (digest),
    primary key (attempt, digest)
);
comment on table kept is 'Which attempt left which file: a tree may name no other than these and those it was given.';
comment on table files is 'Files of workspaces, and the trees that name them, by their content.';

create trigger sessions_keep before delete on sessions for each row execute function refuse_change();
create trigger calls_keep before delete on calls for each row execute function refuse_change();
create trigger files_append_only before update or delete on files for each row execute function refuse_change();
create trigger kept_append_only before update or delete on kept for each row execute function refuse_change();
create trigger kept_no_truncate before truncate on kept for each statement execute function refuse_change();
create trigger sessions_no_truncate before truncate on sessions for each statement execute function refuse_change();
create trigger calls_no_truncate before truncate on calls for each statement execute function refuse_change();
create trigger files_no_truncate before truncate on files for each statement execute function refuse_change();
