-- The record: what was decided about each Task, and what came of it.

create table tasks (
    uid text primary key,
    namespace text not null,
    name text not null,
    -- How many transactions have changed the record; each names the version that it saw.
    version bigint not null,
    adopted_at timestamptz not null,
    spec jsonb not null,
    ending_cause text check (ending_cause in ('Cancelled', 'DeadlineExceeded', 'Deleted', 'StepFailed')),
    ending_at timestamptz,
    outcome text check (outcome in ('Completed', 'Failed', 'Rejected', 'Cancelled')),
    reason text,
    message text,
    finished_at timestamptz,
    check ((ending_cause is null) = (ending_at is null)),
    check ((outcome is null) = (finished_at is null)),
    check ((outcome is null) = (reason is null)),
    check ((outcome is null) = (message is null))
);
create index tasks_unfinished on tasks (uid) where outcome is null;
comment on table tasks is 'One row a Task object; a Task that is deleted and made anew is another row.';

create table plans (
    task_uid text primary key references tasks (uid),
    name text not null,
    digest text not null,
    source text not null,
    parallelism integer not null,
    steps jsonb not null,
    parameters jsonb not null,
    stamped_at timestamptz not null
);
comment on table plans is 'The Plan that a Task runs, as it was stamped.';

create table steps (
    task_uid text not null references tasks (uid),
    name text not null,
    position integer not null,
    outcome text not null default 'Open'
        check (outcome in ('Open', 'Succeeded', 'Failed', 'Skipped', 'Rejected', 'Unknown')),
    reason text,
    message text,
    not_before timestamptz,
    output_digest text,
    output_bytes integer,
    finished_at timestamptz,
    primary key (task_uid, name),
    check ((outcome = 'Open') = (finished_at is null)),
    check ((output_digest is null) = (output_bytes is null))
);
comment on table steps is 'What became of each step of a Plan.';

create table approvals (
    task_uid text not null references tasks (uid),
    name text not null,
    step text not null,
    attempt integer not null,
    digest text not null,
    binding jsonb not null,
    risk text not null,
    rules jsonb not null,
    requested_at timestamptz not null,
    expires_at timestamptz not null,
    state text not null
        check (state in ('Requested', 'Approved', 'Rejected', 'Expired', 'Superseded', 'Consumed', 'Withdrawn')),
    decision jsonb,
    changed jsonb,
    primary key (task_uid, name),
    check ((state in ('Approved', 'Rejected', 'Consumed')) <= (decision is not null)),
    check ((state = 'Superseded') = (changed is not null))
);
comment on table approvals is 'What people were asked to sign for, and what they said.';

create table attempts (
    -- The Job''s name, and the fence: unique for ever.
    key text primary key,
    task_uid text not null references tasks (uid),
    step text not null,
    number integer not null,
    digest text not null,
    input_digest text not null,
    approval text,
    intended_at timestamptz not null,
    launch jsonb not null,
    -- At most one pod is ever let in.
    pod_uid text unique,
    admitted_at timestamptz,
    outcome text check (outcome in
        ('Succeeded', 'Failed', 'TimedOut', 'Cancelled', 'Voided', 'NotStarted', 'Unknown')),
    message text,
    finished_at timestamptz,
    unique (task_uid, step, number),
    -- An Approval is consumed once.
    unique (task_uid, approval),
    foreign key (task_uid, step) references steps (task_uid, name),
    foreign key (task_uid, approval) references approvals (task_uid, name),
    check ((pod_uid is null) = (admitted_at is null)),
    check ((outcome is null) = (finished_at is null)),
    check (outcome <> 'Succeeded' or pod_uid is not null)
);
comment on table attempts is 'Each try at a step: one key, one Job, one row, written before the Job exists.';

create table outputs (
    digest text primary key,
    body bytea not null
);
comment on table outputs is 'Outputs of steps, as canonical JSON (RFC 8785), by their digest.';

create table audit (
    seq bigint generated always as identity primary key,
    at timestamptz not null,
    task_uid text not null references tasks (uid),
    kind text not null,
    body jsonb not null
);
create index audit_task on audit (task_uid, seq);
comment on table audit is 'Every change of the record, in order; append-only.';

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, tg_op using errcode = 'restrict_violation';
end $$;
create trigger audit_append_only before update or delete on audit
    for each row execute function refuse_change();
create trigger audit_no_truncate before truncate on audit
    for each statement execute function refuse_change();
create trigger attempts_keep before delete on attempts
    for each row execute function refuse_change();
create trigger attempts_no_truncate before truncate on attempts
    for each statement execute function refuse_change();

create view step_overview as
select t.namespace, t.name as task, s.position, s.name as step, s.outcome,
       count(a.key)::integer as attempts,
       (array_agg(a.input_digest order by a.number desc) filter (where a.key is not null))[1] as input_digest,
       s.output_digest, s.finished_at, t.uid as task_uid
from steps s
join tasks t on t.uid = s.task_uid
left join attempts a on a.task_uid = s.task_uid and a.step = s.name
group by t.uid, s.task_uid, s.name, s.position, s.outcome, s.output_digest, s.finished_at, t.namespace, t.name;
comment on view step_overview is 'The steps of every Task with their hashes, for people.';
