-- Two namespaces, three Tasks, and attempts on either side of a midnight of UTC.

insert into tasks (uid, namespace, name, version, adopted_at, spec, outcome, reason, message, finished_at) values
    ('a', 'alpha', 'one', 1, now(), '{"agentRef": {"name": "robot"}}', 'Completed', 'Completed', '', now()),
    ('b', 'alpha', 'two', 1, now(), '{}', null, null, null, null),
    ('c', 'beta', 'three', 1, now(), '{"agentRef": {"name": "robot"}}', null, null, null, null);
insert into steps (task_uid, name, position, outcome, reason, finished_at)
    select uid, step, n, outcome, reason, at::timestamptz from (values
        ('a', 's1', 1, 'Succeeded', null, '2026-11-20T23:59:59.999999Z'),
        ('a', 's2', 2, 'Rejected', 'OverBudget', '2026-11-21T01:00:00Z'),
        ('a', 's3', 3, 'Rejected', 'OverBudget', '2026-11-21T02:00:00Z'),
        ('b', 's1', 1, 'Failed', 'ExitCode', '2026-11-21T03:00:00Z'),
        ('b', 's2', 2, 'Open', 'ImagePull', null),
        ('c', 's1', 1, 'Rejected', 'OverBudget', '2026-11-21T04:00:00Z'),
        ('c', 's2', 2, 'Failed', 'ExitCode', '2026-11-21T05:00:00Z')) as s (uid, step, n, outcome, reason, at);
insert into attempts (key, task_uid, step, number, digest, input_digest, intended_at, launch)
    select key, uid, step, 1, 'd', 'd', now(), '{}' from (values
        ('a1', 'a', 's1'), ('a2', 'a', 's2'), ('a3', 'a', 's3'),
        ('b1', 'b', 's1'), ('b2', 'b', 's2'), ('c1', 'c', 's1'), ('c2', 'c', 's2')) as t (key, uid, step);
insert into budgets (scope, subject, "window", starts_at, ends_at, "limit", spent, held) values
    ('Cluster', '', 'Total', '1970-01-01T00:00:00Z', null, null, 71, 15),
    ('Namespace', 'alpha', 'Day', '2026-11-20T00:00:00Z', '2026-11-21T00:00:00Z', 100, 40, 0),
    ('Namespace', 'alpha', 'Day', date_trunc('day', now()), date_trunc('day', now()) + interval '1 day', 50, 26, 5),
    ('Agent', 'alpha/robot', 'Hour', date_trunc('hour', now()), date_trunc('hour', now()) + interval '1 hour', 20, 30, 0),
    ('Agent', 'beta/robot', 'Hour', date_trunc('hour', now()), date_trunc('hour', now()) + interval '1 hour', 0, 5, 10),
    ('Task', 'a', 'Total', '1970-01-01T00:00:00Z', null, 1000, 40, 0),
    ('Task', 'b', 'Total', '1970-01-01T00:00:00Z', null, 3, 2, 0),
    ('Task', 'c', 'Total', '1970-01-01T00:00:00Z', null, null, 5, 10);
insert into reservations (attempt, task_uid, namespace, agent, skill, priority, verdict, amount, per_attempt, budgets,
                          state, cost, reserved_at, ended_at)
    select key, uid, ns, agent, skill, priority, 'Allowed', amount, 0, '{}', state, cost, now(), at::timestamptz
    from (values
        ('a1', 'a', 'alpha', 'robot', 'image', 'High', 50, 'Settled', 40, '2026-11-20T23:59:59.999999Z'),
        ('a2', 'a', 'alpha', 'robot', 'image', 'High', 20, 'Settled', 24, '2026-11-21T00:00:00Z'),
        ('a3', 'a', 'alpha', 'robot', 'price', 'High', 10, 'Released', 0, '2026-11-21T10:00:00Z'),
        ('b1', 'b', 'alpha', null, 'price', 'Normal', 10, 'Settled', 2, '2026-11-21T11:00:00Z'),
        ('b2', 'b', 'alpha', null, 'price', 'Normal', 5, 'Held', null, null),
        ('c1', 'c', 'beta', 'robot', 'price', 'Low', 10, 'Settled', 5, '2026-11-21T12:00:00Z'),
        ('c2', 'c', 'beta', 'robot', 'batch', 'Low', 10, 'Unknown', null, '2026-11-21T12:00:00Z'))
    as r (key, uid, ns, agent, skill, priority, amount, state, cost, at);
insert into budget_decisions (at, task_uid, namespace, agent, step, skill, priority, verdict, amount, lines)
    select at::timestamptz, uid, ns, agent, 's1', 'image', priority, verdict, amount, '[]' from (values
        ('2026-11-20T23:00:00Z', 'a', 'alpha', 'robot', 'High', 'Allowed', 50),
        ('2026-11-21T00:00:00Z', 'a', 'alpha', 'robot', 'High', 'Allowed', 20),
        ('2026-11-21T23:59:59Z', 'a', 'alpha', 'robot', 'High', 'Allowed', 10),
        ('2026-11-21T11:00:00Z', 'b', 'alpha', null, 'Normal', 'Deferred', 10),
        ('2026-11-21T12:00:00Z', 'c', 'beta', 'robot', 'Low', 'Rejected', 9223372036854775807),
        ('2026-11-21T13:00:00Z', 'c', 'beta', 'robot', 'Low', 'Rejected', 9223372036854775807))
    as d (at, uid, ns, agent, priority, verdict, amount);
