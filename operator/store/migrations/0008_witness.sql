-- What witnesses outside have cosigned: that a checkpoint follows from every one before it.

create table log_cosignatures (
    -- C2SP signed-note: NAME+HEX+BASE64.
    witness text not null,
    size bigint not null references log_checkpoints (size),
    -- The line that goes below the checkpoint.
    line text not null,
    -- When it was kept; the line has the witness's own time.
    at timestamptz not null,
    primary key (witness, size)
);
create index log_cosignatures_size on log_cosignatures (size);
comment on table log_cosignatures is 'The cosignatures of witnesses, by checkpoint; append-only.';
create trigger log_cosignatures_append_only before update or delete on log_cosignatures
    for each row execute function refuse_change();
create trigger log_cosignatures_no_truncate before truncate on log_cosignatures
    for each statement execute function refuse_change();
