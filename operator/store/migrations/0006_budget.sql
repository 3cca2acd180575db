-- What may be spent, what is reserved and what was spent. Amounts are millionths of the one currency.

alter table steps
    -- Its price did not fit: when the window begins in which it may, if that is what it waits for, and why.
    add column deferred_until timestamptz,
    add column deferral text,
    add check (deferred_until is null or deferral is not null);

-- Set when its attempt is over: then no call begins any more, and what it cost is final.
alter table sessions add column closed boolean not null default false;

create table budgets (
    id bigint generated always as identity primary key,
    scope text not null check (scope in ('Cluster', 'Namespace', 'Agent', 'Task')),
    -- Empty for the cluster; a namespace; NAMESPACE/AGENT; a Task''s uid.
    subject text not null,
    "window" text not null check ("window" in ('Hour', 'Day', 'Month', 'Total')),
    starts_at timestamptz not null,
    ends_at timestamptz,
    -- As it was when it was reserved from last; null where it is only counted.
    "limit" bigint check ("limit" >= 0),
    spent bigint not null default 0 check (spent >= 0),
    held bigint not null default 0 check (held >= 0),
    -- The last of 50, 80 and 100 percent that it has passed.
    alerted smallint not null default 0,
    unique (scope, subject, "window", starts_at)
);
comment on table budgets is 'Each window of each budget: what was spent in it, and what is held.';
-- Small rows that change often stay on their page.
alter table budgets set (fillfactor = 50);

create table reservations (
    -- The idempotency key: an attempt reserves once.
    attempt text primary key references attempts (key),
    task_uid text not null references tasks (uid),
    namespace text not null,
    agent text,
    skill text not null,
    priority text not null,
    verdict text not null check (verdict in ('Allowed', 'Downgraded')),
    -- The most that the attempt may cost, and of it what is owed once its pod was let in.
    amount bigint not null check (amount > 0),
    per_attempt bigint not null check (per_attempt between 0 and amount),
    -- The rows of budgets that it counts in.
    budgets bigint[] not null,
    state text not null default 'Held' check (state in ('Held', 'Settled', 'Released', 'Unknown')),
    cost bigint check (cost >= 0),
    reserved_at timestamptz not null,
    ended_at timestamptz,
    check ((cost is null) = (state in ('Held', 'Unknown')))
);
create index reservations_open on reservations (reserved_at) where state in ('Held', 'Unknown');
create index reservations_task on reservations (task_uid);
comment on table reservations is 'What was reserved for each attempt that has a price, and what it came to.';

create table transfers (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    attempt text not null references reservations (attempt),
    kind text not null check (kind in ('Reserve', 'Settle', 'Release', 'Overrun')),
    -- `treasury`, `held`, or `revenue/SKILL`: what one loses the other gains.
    source text not null,
    destination text not null check (destination <> source),
    amount bigint not null check (amount > 0)
);
create index transfers_attempt on transfers (attempt);
comment on table transfers is 'The journal, in double entry: money only moves from one account to another; append-only.';
create trigger transfers_append_only before update or delete on transfers
    for each row execute function refuse_change();
create trigger transfers_no_truncate before truncate on transfers
    for each statement execute function refuse_change();
create trigger reservations_keep before delete on reservations
    for each row execute function refuse_change();
create trigger reservations_no_truncate before truncate on reservations
    for each statement execute function refuse_change();
create trigger budgets_keep before delete on budgets
    for each row execute function refuse_change();
create trigger budgets_no_truncate before truncate on budgets
    for each statement execute function refuse_change();

create view ledger_accounts as
select account, sum(amount)::bigint as balance
from (select destination as account, amount from transfers
      union all select source, -amount from transfers) as postings
group by account;
comment on view ledger_accounts is 'What each account holds; all of them together hold nothing.';

create view ledger_differences as
select
    (select coalesce(sum(balance), 0) from ledger_accounts)::bigint as accounts,
    ((select coalesce(sum(balance), 0) from ledger_accounts where account = 'held')
     - (select coalesce(sum(amount), 0) from reservations where state in ('Held', 'Unknown')))::bigint as held,
    ((select coalesce(sum(balance), 0) from ledger_accounts where account like 'revenue/%')
     - (select coalesce(sum(cost), 0) from reservations))::bigint as revenue,
    ((select coalesce(sum(held), 0) from budgets where scope = 'Task' and "window" = 'Total')
     - (select coalesce(sum(amount), 0) from reservations where state in ('Held', 'Unknown')))::bigint as budgets_held,
    ((select coalesce(sum(spent), 0) from budgets where scope = 'Task' and "window" = 'Total')
     - (select coalesce(sum(cost), 0) from reservations))::bigint as budgets_spent;
comment on view ledger_differences is 'How the books differ from each other: nothing but zeros, at any instant.';

create table budget_decisions (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    task_uid text not null references tasks (uid),
    namespace text not null,
    agent text,
    step text not null,
    skill text not null,
    priority text not null,
    verdict text not null check (verdict in ('Allowed', 'Downgraded', 'Deferred', 'Rejected')),
    amount bigint not null,
    message text,
    -- The rows of budgets with the numbers that were seen.
    lines jsonb not null
);
create index budget_decisions_at on budget_decisions (at);
comment on table budget_decisions is 'What was decided about prices, and on which numbers; append-only.';
create trigger budget_decisions_append_only before update or delete on budget_decisions
    for each row execute function refuse_change();
create trigger budget_decisions_no_truncate before truncate on budget_decisions
    for each statement execute function refuse_change();

create table alerts (
    id bigint generated always as identity primary key,
    at timestamptz not null,
    budget bigint not null references budgets (id),
    percent smallint not null check (percent in (50, 80, 100)),
    -- As they were then.
    "limit" bigint not null,
    spent bigint not null,
    held bigint not null,
    -- When the Event was written.
    told_at timestamptz,
    -- The webhook: when it was taken, when it gave up, how often it was tried, and when it is tried next.
    delivered_at timestamptz,
    dead_at timestamptz,
    tries integer not null default 0,
    next_try timestamptz not null default now(),
    last_error text,
    unique (budget, percent)
);
create index alerts_due on alerts (next_try) where delivered_at is null and dead_at is null;
create index alerts_untold on alerts (id) where told_at is null;
comment on table alerts is 'That a budget was used up to 50, 80 or 100 percent, and who was told: an outbox.';
