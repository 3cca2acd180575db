-- The log for readers: what is configured, where a hash stands, and since when.

create table configurations (
    kind text not null,
    namespace text not null,
    name text not null,
    uid text not null,
    digest text,
    primary key (kind, namespace, name)
);
comment on table configurations is 'The Policies, Skills, Agents and templates that the log has told of last.';

-- Their order, whatever the clock said.
alter table log_keys add column id bigint generated always as identity unique;

-- An entry, its payload and its place in the queue are written by one statement, and entries are never deleted: to check
-- that again for each would cost a tenth of the rate.
alter table log_payloads drop constraint log_payloads_entry_fkey;
alter table log_pending drop constraint log_pending_entry_fkey;

-- What is of no Task: keys, configuration.
create index log_entries_system on log_entries (kind, id) where task_uid is null;
-- Small, as entries come nearly in the order of their time.
create index log_entries_at on log_entries using brin (at);

create index tasks_by_time on tasks (adopted_at, uid);
create index tasks_by_name on tasks (namespace, name, adopted_at);
create index plans_by_digest on plans (digest);
create index attempts_by_digest on attempts (digest);
create index attempts_by_input on attempts (input_digest);
create index steps_by_output on steps (output_digest) where output_digest is not null;

create view task_overview as
select t.uid, t.namespace, t.name, t.spec ->> 'type' as type, t.spec -> 'agentRef' ->> 'name' as agent,
       t.requester ->> 'user' as requester, t.adopted_at, t.finished_at, t.reason, t.message, p.digest as plan_digest,
       case when t.outcome is not null then t.outcome
            when t.ending_cause is not null then 'Ending'
            when p.task_uid is null then 'Planning'
            when exists (select from approvals a where a.task_uid = t.uid and a.state = 'Requested')
                then 'WaitingApproval'
            else 'Executing' end as state
from tasks t left join plans p on p.task_uid = t.uid;
comment on view task_overview is 'Every Task with its state, for people and programs.';
