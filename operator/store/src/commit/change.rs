//! Each [`Change`] in SQL. Every statement names the state that it starts from, so that a change that does
//! not fit touches no row, which is refused.

use countersign_core::json::canonical;
use countersign_core::record::{AttemptOutcome, Change, Output};
use countersign_core::run::Run;
use sqlx::PgConnection;
use sqlx::postgres::PgQueryResult;

use crate::error::{CommitError, StoreError};
use crate::runs;
use crate::values::{json, micros, named};

pub(super) async fn apply(connection: &mut PgConnection, uid: &str, change: &Change) -> Result<(), CommitError> {
    match change {
        Change::Adopt { uid: adopted, namespace, name, spec, request, run, at } => {
            let done = sqlx::query!(
                "insert into tasks (uid, namespace, name, version, adopted_at, spec, requester, on_behalf_of)
                 values ($1, $2, $3, 0, to_timestamp($4::bigint / 1000000.0), $5, $6, $7) on conflict (uid) do nothing",
                adopted,
                namespace,
                name,
                micros(*at),
                spec,
                request.requester.as_ref().map(json).transpose()?,
                request.on_behalf_of.as_deref()
            );
            if done.execute(&mut *connection).await?.rows_affected() != 1 {
                // Another reconciliation adopted it first.
                return Err(CommitError::Conflict);
            }
            match run {
                Some(Run::Own(key)) => runs::begin(connection, adopted, key, *at).await,
                Some(Run::Repeats(_)) | None => Ok(()),
            }
        }
        Change::SnapshotPlan { plan, at } => {
            let steps = json(&plan.steps)?;
            let parameters = json(&plan.parameters)?;
            let names: Vec<String> = plan.steps.iter().map(|step| step.name.clone()).collect();
            sqlx::query!(
                "insert into plans (task_uid, name, digest, source, parallelism, steps, parameters, stamped_at)
                 values ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::bigint / 1000000.0))",
                uid,
                plan.name,
                plan.digest.to_string(),
                plan.source,
                small(plan.parallelism)?,
                steps,
                parameters,
                micros(*at)
            )
            .execute(&mut *connection)
            .await?;
            sqlx::query!(
                "insert into steps (task_uid, name, position)
                 select $1, s.name, s.n::integer from unnest($2::text[]) with ordinality as s (name, n)",
                uid,
                &names
            )
            .execute(connection)
            .await?;
            Ok(())
        }
        Change::RequestApproval {
            name,
            step,
            digest,
            covers,
            requester,
            on_behalf_of,
            required,
            scope,
            risk,
            expires_at,
            at,
        } => {
            sqlx::query!(
                "insert into approvals
                 (task_uid, name, step, digest, covers, requester, on_behalf_of, required, scope, risk,
                  requested_at, expires_at, state)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, to_timestamp($11::bigint / 1000000.0),
                         to_timestamp($12::bigint / 1000000.0), 'Requested')",
                uid,
                name,
                step,
                digest.to_string(),
                json(covers)?,
                json(requester)?,
                on_behalf_of.as_deref(),
                json(required)?,
                named(scope)?,
                named(risk)?,
                micros(*at),
                micros(*expires_at)
            )
            .execute(connection)
            .await?;
            Ok(())
        }
        Change::SignApproval { name, decision, at } => {
            let done = sqlx::query!(
                "insert into signatures (task_uid, approval, position, signer, approved, decision, recorded_at)
                 select a.task_uid, a.name,
                        1 + (select count(*)::integer from signatures s where s.task_uid = $1 and s.approval = $2),
                        $3, $4, $5, to_timestamp($6::bigint / 1000000.0)
                 from approvals a where a.task_uid = $1 and a.name = $2 and a.state = 'Requested'
                 on conflict do nothing",
                uid,
                name,
                decision.user,
                decision.approved,
                json(decision)?,
                micros(*at)
            );
            one(done.execute(connection).await?, change)
        }
        Change::DecideApproval { name, approved, at: _ } => {
            let state = if *approved { "Approved" } else { "Rejected" };
            let done = sqlx::query!(
                "update approvals set state = $3 where task_uid = $1 and name = $2 and state = 'Requested'",
                uid,
                name,
                state
            );
            one(done.execute(connection).await?, change)
        }
        Change::ExpireApproval { name, at: _ } => {
            let done = sqlx::query!(
                "update approvals set state = 'Expired' where task_uid = $1 and name = $2 and state = 'Requested'",
                uid,
                name
            );
            one(done.execute(connection).await?, change)
        }
        Change::SupersedeApproval { name, changed, at: _ } => {
            let done = sqlx::query!(
                "update approvals set state = 'Superseded', changed = $3
                 where task_uid = $1 and name = $2 and state in ('Requested', 'Approved')",
                uid,
                name,
                json(changed)?
            );
            one(done.execute(connection).await?, change)
        }
        Change::WithdrawApproval { name, at: _ } => {
            let done = sqlx::query!(
                "update approvals set state = 'Withdrawn'
                 where task_uid = $1 and name = $2 and state in ('Requested', 'Approved')",
                uid,
                name
            );
            one(done.execute(connection).await?, change)
        }
        // What it reserves is the ledger's.
        Change::Intend { step, number, key, digest, input_digest, approval, launch, rules: _, budget: _, at } => {
            if let Some(approval) = approval {
                // For exactly what was signed for, and not where the step began under it before.
                let signed = sqlx::query!(
                    "update approvals a set state = a.state
                     where a.task_uid = $1 and a.name = $2 and a.state = 'Approved'
                       and a.covers -> $3::text ->> 'digest' = $4
                       and not exists (select from attempts t where t.task_uid = $1 and t.approval = $2
                                       and t.step = $3::text and t.pod_uid is not null)",
                    uid,
                    approval,
                    step,
                    digest.to_string()
                );
                one(signed.execute(&mut *connection).await?, change)?;
            }
            let opened = sqlx::query!(
                "update steps set not_before = null, deferred_until = null, deferral = null
                 where task_uid = $1 and name = $2 and outcome = 'Open'",
                uid,
                step
            );
            one(opened.execute(&mut *connection).await?, change)?;
            sqlx::query!(
                "insert into attempts
                 (key, task_uid, step, number, digest, input_digest, approval, launch, intended_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9::bigint / 1000000.0))",
                key,
                uid,
                step,
                small(*number)?,
                digest.to_string(),
                input_digest.to_string(),
                approval.as_deref(),
                json(launch)?,
                micros(*at)
            )
            .execute(connection)
            .await?;
            Ok(())
        }
        Change::Defer { step, until, budget, at: _ } => {
            let done = sqlx::query!(
                "update steps set deferred_until = to_timestamp($3::bigint / 1000000.0), deferral = $4
                 where task_uid = $1 and name = $2 and outcome = 'Open'",
                uid,
                step,
                until.map(micros),
                budget.message.as_deref().unwrap_or_default()
            );
            one(done.execute(connection).await?, change)
        }
        Change::Admit { step, number, pod_uid, at } => {
            let admitted = sqlx::query_scalar!(
                "update attempts set pod_uid = $4, admitted_at = to_timestamp($5::bigint / 1000000.0)
                 where task_uid = $1 and step = $2 and number = $3 and pod_uid is null and outcome is null
                 returning approval",
                uid,
                step,
                small(*number)?,
                pod_uid,
                micros(*at)
            );
            let approval = admitted.fetch_optional(&mut *connection).await?;
            let approval = approval.ok_or_else(|| untouched(change, 0))?;
            let Some(approval) = approval else { return Ok(()) };
            // It began, and that uses the Approval: once for each step that it is for.
            let used = sqlx::query!(
                "update approvals a set state = case
                   when (select count(*) from attempts t
                         where t.task_uid = $1 and t.approval = $2 and t.pod_uid is not null)
                        >= (select count(*) from jsonb_object_keys(a.covers))
                   then 'Consumed' else a.state end
                 where a.task_uid = $1 and a.name = $2 and a.state = 'Approved'",
                uid,
                approval
            );
            one(used.execute(connection).await?, change)
        }
        // The log's entry holds the evidence.
        Change::FinishAttempt { step, number, outcome, message, output, retry_at, evidence: _, workspace, at } => {
            if let Some(output) = output {
                keep(connection, output).await?;
            }
            finish_attempt(connection, uid, step, *number, *outcome, message.as_deref(), *at, change).await?;
            sqlx::query!(
                "update steps set not_before = to_timestamp($3::bigint / 1000000.0), workspace = $4
                 where task_uid = $1 and name = $2",
                uid,
                step,
                retry_at.map(micros),
                workspace.map(|tree| tree.to_string())
            )
            .execute(connection)
            .await?;
            Ok(())
        }
        Change::FinishStep { step, outcome, reason, message, output, rules: _, budget: _, at } => {
            let bytes = output.as_ref().map(|output| small(output.bytes)).transpose()?;
            let done = sqlx::query!(
                "update steps set outcome = $3, reason = $4, message = $5, output_digest = $6, output_bytes = $7,
                 not_before = null, deferred_until = null, deferral = null, finished_at = to_timestamp($8::bigint / 1000000.0)
                 where task_uid = $1 and name = $2 and outcome = 'Open'",
                uid,
                step,
                named(outcome)?,
                reason.as_deref(),
                message.as_deref(),
                output.as_ref().map(|output| output.digest.to_string()),
                bytes,
                micros(*at)
            );
            one(done.execute(connection).await?, change)
        }
        Change::BeginEnding { ending } => {
            let done = sqlx::query!(
                "update tasks set ending_cause = $2, ending_at = to_timestamp($3::bigint / 1000000.0)
                 where uid = $1 and outcome is null",
                uid,
                named(&ending.cause)?,
                micros(ending.at)
            );
            one(done.execute(connection).await?, change)
        }
        Change::FinishTask { finished, ran } => {
            let done = sqlx::query!(
                "update tasks set outcome = $2, reason = $3, message = $4,
                 finished_at = to_timestamp($5::bigint / 1000000.0) where uid = $1 and outcome is null",
                uid,
                named(&finished.outcome)?,
                finished.reason,
                finished.message,
                micros(finished.at)
            );
            one(done.execute(&mut *connection).await?, change)?;
            runs::end(connection, uid, finished, *ran).await
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the fields of one change")]
async fn finish_attempt(
    connection: &mut PgConnection,
    uid: &str,
    step: &str,
    number: u32,
    outcome: AttemptOutcome,
    message: Option<&str>,
    at: jiff::Timestamp,
    change: &Change,
) -> Result<(), CommitError> {
    let done = sqlx::query!(
        "update attempts set outcome = $4, message = $5, finished_at = to_timestamp($6::bigint / 1000000.0)
         where task_uid = $1 and step = $2 and number = $3 and outcome is null",
        uid,
        step,
        small(number)?,
        named(&outcome)?,
        message,
        micros(at)
    );
    one(done.execute(connection).await?, change)
}

/// Outputs are content-addressed: the same output is kept once.
async fn keep(connection: &mut PgConnection, output: &Output) -> Result<(), CommitError> {
    let body = canonical::to_vec(&output.value).map_err(|error| StoreError::Corrupt(error.into()))?;
    sqlx::query!(
        "insert into outputs (digest, body) values ($1, $2) on conflict (digest) do nothing",
        output.reference.digest.to_string(),
        body
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn one(result: PgQueryResult, change: &Change) -> Result<(), CommitError> {
    match result.rows_affected() {
        1 => Ok(()),
        rows => Err(untouched(change, rows)),
    }
}

fn untouched(change: &Change, rows: u64) -> CommitError {
    CommitError::Refused(format!("{} touched {rows} rows instead of one", change.kind()).into())
}

fn small(number: u32) -> Result<i32, StoreError> {
    i32::try_from(number).map_err(|error| StoreError::Corrupt(error.into()))
}
