-- A signature counts as who the person is when they sign: of other groups they sign anew, and the last one counts.

alter table signatures drop constraint signatures_task_uid_approval_signer_approved_key;
-- The same entry is recorded once.
create unique index signatures_once on signatures (task_uid, approval, md5(decision::text));
