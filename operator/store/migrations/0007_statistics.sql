-- What was spent and decided, for people, for programs and for dashboards. Amounts are millionths of the one currency,
-- days are of UTC.

-- As a day is asked for.
create index reservations_by_day on reservations (((ended_at at time zone 'UTC')::date)) where cost > 0;
create index budget_decisions_by_day on budget_decisions (((at at time zone 'UTC')::date));
-- As pages follow each other.
create index budgets_by_start on budgets (starts_at, scope, subject, "window");
-- Windows that may be open. Those of Tasks, one each, are found by the Task.
create index budgets_by_end on budgets (ends_at) where scope <> 'Task';
-- What the broker counts.
create index alerts_undelivered on alerts (dead_at) where delivered_at is null;

create view spend_by_day as
select (ended_at at time zone 'UTC')::date as day, namespace, agent, skill,
       -- A sum that is more than can be kept is shown as the most that can.
       least(sum(cost), 9223372036854775807)::bigint as spent,
       count(*) as attempts,
       count(*) filter (where cost > amount) as overruns
from reservations
where cost > 0
group by 1, namespace, agent, skill;
comment on view spend_by_day is 'What was spent on each day on which attempts were settled, and for how many; overruns cost more than was reserved.';
comment on column spend_by_day.agent is 'Null where the Task was for no Agent.';

create view decisions_by_kind as
select (at at time zone 'UTC')::date as day, namespace, agent, priority, verdict,
       count(*) as decisions,
       least(sum(amount), 9223372036854775807)::bigint as amount
from budget_decisions
group by 1, namespace, agent, priority, verdict;
comment on view decisions_by_kind is 'How often a price was allowed, downgraded, deferred or rejected, and how much was asked for.';

create view step_reasons as
select t.namespace, t.spec -> 'agentRef' ->> 'name' as agent, s.outcome, s.reason,
       count(*) as count,
       max(s.finished_at) as last_seen
from steps s join tasks t on t.uid = s.task_uid
where s.outcome <> 'Open' and s.reason is not null
group by t.namespace, agent, s.outcome, s.reason;
comment on view step_reasons is 'Why steps ended as they did, how often, and when last.';

create view budget_overview as
select b.scope, b.subject,
       case b.scope when 'Namespace' then b.subject
                    when 'Agent' then split_part(b.subject, '/', 1)
                    when 'Task' then t.namespace end as namespace,
       case b.scope when 'Agent' then split_part(b.subject, '/', 2)
                    when 'Task' then t.name end as name,
       b."window", b.starts_at, b.ends_at,
       (b.ends_at is null or b.ends_at > now()) and t.outcome is null as current,
       b."limit", b.spent, b.held,
       case when b."limit" is not null then greatest(b."limit" - b.spent - b.held, 0) end as "left",
       case when b."limit" > 0
            then least(trunc((b.spent::numeric + b.held) * 100 / b."limit"), 2147483647)::integer end as percent
from budgets b left join tasks t on b.scope = 'Task' and t.uid = b.subject;
comment on view budget_overview is 'Each window of each budget, as it stands or as it ended: what may be spent, is spent, is held and is left.';
comment on column budget_overview.subject is 'Empty for the cluster; a namespace; NAMESPACE/AGENT; a Task''s uid.';
comment on column budget_overview.current is 'Whether it can still be spent from: the window goes on, and so does the Task.';
comment on column budget_overview."limit" is 'As it was when it was last reserved from; null where it is only counted.';
comment on column budget_overview.percent is 'Of the limit, spent or held; above 100 after an overrun.';
