-- Which requests ran: what keeps one that is asked for again from running again. It outlives the records.

create table runs (
    task_uid text primary key,
    namespace_uid text not null,
    name text not null,
    requester text not null,
    content text not null,
    begun_at timestamptz not null,
    ran boolean not null default false,
    outcome text,
    reason text,
    message text,
    finished_at timestamptz,
    check ((outcome is null) = (finished_at is null)),
    check (outcome is not null or not ran)
);
-- A request that goes on, or is used up, is there once, whoever asks for it at the same time.
create unique index runs_once on runs (namespace_uid, name, requester, content) where outcome is null or ran;
comment on table runs is 'A row for each run of a request, with how it ended. No key to tasks, as it is to be there when they are gone.';
comment on column runs.content is 'SHA-256 over RFC 8785 JSON of what was asked for.';
comment on column runs.ran is 'Whether its end uses the request up; one that came to nothing may be asked for again.';
