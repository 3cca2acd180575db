-- Signatures by several people, for one step or for several of a Plan.

alter table tasks
    -- Who asked, as the admission webhook stamped it.
    add column requester jsonb,
    -- For whom the requester said that it asked: a claim.
    add column on_behalf_of text;

alter table approvals
    -- Every step that it is for: attempt, digest, what the digest is of, and the rules that asked.
    add column covers jsonb,
    add column requester jsonb,
    add column on_behalf_of text,
    add column required jsonb not null default '{"count": 1}',
    add column scope text not null default 'Step' check (scope in ('Step', 'Plan'));

create table signatures (
    task_uid text not null,
    approval text not null,
    -- In the order in which they were seen.
    position integer not null,
    signer text not null,
    approved boolean not null,
    decision jsonb not null,
    recorded_at timestamptz not null,
    primary key (task_uid, approval, position),
    -- A person counts once; whoever has approved may still say no.
    unique (task_uid, approval, signer, approved),
    foreign key (task_uid, approval) references approvals (task_uid, name)
);
comment on table signatures is 'What people said, with the webhook''s seal; append-only.';
create trigger signatures_append_only before update or delete on signatures
    for each row execute function refuse_change();
create trigger signatures_no_truncate before truncate on signatures
    for each statement execute function refuse_change();

update approvals set
    covers = jsonb_build_object(step, jsonb_build_object(
        'attempt', attempt, 'digest', digest, 'binding', binding, 'rules', rules)),
    requester = '{"user": "unknown"}';
insert into signatures (task_uid, approval, position, signer, approved, decision, recorded_at)
select task_uid, name, 1, decision ->> 'user', (decision ->> 'approved')::boolean,
       decision || '{"seal": ""}', requested_at
from approvals where decision is not null;

alter table approvals
    alter column covers set not null,
    alter column requester set not null,
    drop column attempt,
    drop column binding,
    drop column rules,
    drop column decision;

alter table attempts
    drop constraint attempts_task_uid_approval_key,
    -- An Approval is used once for each step that it is for.
    add constraint attempts_approval_used_once unique (task_uid, approval, step);
