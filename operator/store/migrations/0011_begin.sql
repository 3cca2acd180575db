-- An Approval is used when a step begins under it, not when an attempt is intended: what never began is launched again
-- under the same signatures.

alter table attempts drop constraint attempts_approval_used_once;
create unique index attempts_approval_used_once on attempts (task_uid, approval, step) where pod_uid is not null;
