-- The record as a transparency log: entries in the transaction of the change that they tell of, put in order by one
-- sequencer into a Merkle tree (RFC 6962), of which signed checkpoints are kept.

-- What was audited before there was a log stays readable, and can still not be changed.
alter table audit rename to audit_before_log;

create table log_entries (
    id bigint generated always as identity primary key,
    task_uid text references tasks (uid),
    kind text not null,
    at timestamptz not null,
    -- Canonical JSON (RFC 8785), of which the leaf is the hash.
    body bytea not null
);
create index log_entries_task on log_entries (task_uid, id);
comment on table log_entries is 'What happened, as it is hashed into the log; append-only.';

create table log_payloads (
    entry bigint primary key references log_entries (id),
    -- Canonical JSON with a salt; the entry holds its SHA-256, so it can be erased without breaking a proof.
    body bytea not null
);
comment on table log_payloads is 'What exactly was decided, by entry; erasable.';

create table log_pending (
    entry bigint primary key references log_entries (id)
);
comment on table log_pending is 'Entries that are not in the tree yet.';

create table log_leaves (
    index bigint primary key check (index >= 0),
    entry bigint not null unique references log_entries (id),
    hash bytea not null check (length(hash) = 32)
);
comment on table log_leaves is 'The order of the entries, and the hash of each; append-only.';

create table log_tiles (
    level smallint not null check (level >= 0),
    index bigint not null check (index >= 0),
    -- Up to 256 hashes, one after the other.
    hashes bytea not null check (length(hashes) between 32 and 8192 and length(hashes) % 32 = 0),
    primary key (level, index)
);
comment on table log_tiles is 'The hashes of the tree, as C2SP tlog-tiles has them; a tile only grows.';

create table log_checkpoints (
    size bigint primary key check (size >= 0),
    root bytea not null check (length(root) = 32),
    -- C2SP signed note.
    note text not null,
    at timestamptz not null
);
comment on table log_checkpoints is 'What the log was, signed; append-only.';

create table log_keys (
    -- C2SP signed-note: NAME+HEX+BASE64.
    public text primary key,
    since timestamptz not null
);
comment on table log_keys is 'The public keys that signed checkpoints; append-only.';

create function refuse_but_growth() returns trigger language plpgsql as $$
begin
    if new.level = old.level and new.index = old.index
       and length(new.hashes) > length(old.hashes)
       and substring(new.hashes from 1 for length(old.hashes)) = old.hashes then
        return new;
    end if;
    raise exception '% only grows: this change is refused', tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger log_entries_append_only before update or delete on log_entries
    for each row execute function refuse_change();
create trigger log_entries_no_truncate before truncate on log_entries
    for each statement execute function refuse_change();
create trigger log_leaves_append_only before update or delete on log_leaves
    for each row execute function refuse_change();
create trigger log_leaves_no_truncate before truncate on log_leaves
    for each statement execute function refuse_change();
create trigger log_checkpoints_append_only before update or delete on log_checkpoints
    for each row execute function refuse_change();
create trigger log_checkpoints_no_truncate before truncate on log_checkpoints
    for each statement execute function refuse_change();
create trigger log_keys_append_only before update or delete on log_keys
    for each row execute function refuse_change();
create trigger log_keys_no_truncate before truncate on log_keys
    for each statement execute function refuse_change();
create trigger log_tiles_grow before update on log_tiles
    for each row execute function refuse_but_growth();
create trigger log_tiles_keep before delete on log_tiles
    for each row execute function refuse_change();
create trigger log_tiles_no_truncate before truncate on log_tiles
    for each statement execute function refuse_change();

create view audit as
select e.id as seq, e.at, e.task_uid, e.kind, l.index as leaf,
       convert_from(p.body, 'UTF8')::jsonb -> 'event' as body
from log_entries e
left join log_leaves l on l.entry = e.id
left join log_payloads p on p.entry = e.id;
comment on view audit is 'The log for people: what happened, in which order; body is null where it was erased.';
