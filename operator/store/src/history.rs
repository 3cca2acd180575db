//! What simulations rest on: what Skills did before, and the Tasks of a namespace as they are on record. It is read in
//! transactions that cannot write.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::observed::TaskView;
use countersign_core::record::{RecordedPlan, Request};
use countersign_core::simulate::{History, PastAttempt, PastStep, PastTask};
use serde_json::Value;
use sqlx::{PgConnection, PgTransaction};

use crate::Store;
use crate::error::StoreError;
use crate::ledger::money;
use crate::values::{count, digest, from_bytes, from_json, from_name, timestamp};

/// How many of a Skill's last attempts count.
const RUNS: i64 = 200;
/// How many steps are looked at together, and how many bytes of JSON there may be of their Plans, of what they were
/// given, and of what they returned.
const STEPS: i64 = 5000;
const BYTES: i64 = 4 << 20;

/// The Tasks of a namespace that were planned last.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The newest first.
    pub tasks: Vec<PastTask>,
    /// Whether some were left out, as there were too many steps.
    pub cut: bool,
}

impl Store {
    /// What the last attempts with each of these Skills came to that were a success; nothing of those without one.
    pub async fn history(&self, skills: &[String]) -> Result<BTreeMap<String, History>, StoreError> {
        let mut transaction = self.read_only().await?;
        let rows = sqlx::query!(
            r#"select s.skill as "skill!", count(*)::integer as "runs!", round(avg(r.cost))::bigint as mean_cost,
                percentile_disc(0.5) within group (order by r.micros) as "p50!",
                percentile_disc(0.95) within group (order by r.micros) as "p95!"
               from unnest($1::text[]) as s (skill)
               cross join lateral (
                   select (extract(epoch from a.finished_at - a.intended_at) * 1000000)::bigint as micros, v.cost
                   from attempts a left join reservations v on v.attempt = a.key and v.state = 'Settled'
                   where a.launch ->> 'skill' = s.skill and a.outcome = 'Succeeded'
                   order by a.finished_at desc limit $2) r
               group by s.skill"#,
            skills,
            RUNS
        )
        .fetch_all(&mut *transaction)
        .await?;
        let of = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or_default());
        let history = rows.into_iter().map(|row| {
            let (p50, p95) = (of(row.p50), of(row.p95));
            let mean_cost = row.mean_cost.map(money).transpose()?;
            Ok((row.skill, History { runs: count(row.runs)?, p50, p95, mean_cost }))
        });
        history.collect()
    }

    /// The last so many Tasks of a namespace that have a Plan, with what their steps were given and returned.
    pub async fn past(&self, namespace: &str, last: u32) -> Result<Past, StoreError> {
        let mut transaction = self.read_only().await?;
        let (mut tasks, cut) = tasks(&mut transaction, namespace, last).await?;
        steps(&mut transaction, &mut tasks).await?;
        outputs(&mut transaction, &mut tasks).await?;
        Ok(Past { tasks, cut })
    }

    /// A transaction that sees one moment and can write nothing.
    async fn read_only(&self) -> Result<PgTransaction<'static>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *transaction).await?;
        Ok(transaction)
    }
}

async fn tasks(connection: &mut PgConnection, namespace: &str, last: u32) -> Result<(Vec<PastTask>, bool), StoreError> {
    let rows = sqlx::query!(
        r#"with newest as (
               select t.uid, t.name, t.spec, t.requester, t.on_behalf_of, t.adopted_at,
                   p.name as plan, p.digest, p.source, p.parallelism, p.steps, p.parameters
               from tasks t join plans p on p.task_uid = t.uid
               where t.namespace = $1 order by t.adopted_at desc, t.uid desc limit $2),
           measured as (
               select *, sum(jsonb_array_length(steps)) over newest_first as steps_so_far,
                   sum(octet_length(steps::text) + octet_length(spec::text)) over newest_first as bytes_so_far
               from newest window newest_first as (order by adopted_at desc, uid desc))
           select uid, name, spec, requester, on_behalf_of, plan, digest, source, parallelism, steps, parameters,
               (select count(*) from newest) as "found!"
           from measured where steps_so_far <= $3 and bytes_so_far <= $4 order by adopted_at desc, uid desc"#,
        namespace,
        i64::from(last),
        STEPS,
        BYTES
    )
    .fetch_all(connection)
    .await?;
    let kept = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let cut = rows.first().is_some_and(|row| row.found > kept);
    let task = rows.into_iter().map(|row| {
        Ok(PastTask {
            request: Request {
                requester: row.requester.map(from_json).transpose()?,
                on_behalf_of: row.on_behalf_of.clone(),
            },
            task: TaskView {
                uid: row.uid,
                namespace: namespace.to_owned(),
                name: row.name,
                generation: None,
                spec: from_json(row.spec)?,
                on_behalf_of: row.on_behalf_of,
                mark: None,
                deleting: false,
                conditions: Vec::new(),
            },
            plan: RecordedPlan {
                name: row.plan,
                digest: digest(&row.digest)?,
                source: row.source,
                parallelism: count(row.parallelism)?,
                steps: from_json(row.steps)?,
                parameters: from_json(row.parameters)?,
            },
            steps: BTreeMap::new(),
        })
    });
    Ok((task.collect::<Result<_, StoreError>>()?, cut))
}

/// What was decided of each step last; input beyond what is read together is left out.
async fn steps(connection: &mut PgConnection, tasks: &mut [PastTask]) -> Result<(), StoreError> {
    let uids: Vec<String> = tasks.iter().map(|task| task.task.uid.clone()).collect();
    let rows = sqlx::query!(
        r#"with all_steps as (
               select u.n, s.task_uid, s.name, s.outcome, s.reason, a.number, a.launch -> 'input' as input,
                   (extract(epoch from coalesce(a.intended_at, s.finished_at, t.adopted_at)) * 1000000)::bigint as at,
                   (select sum(r.cost)::bigint from reservations r join attempts b on b.key = r.attempt
                    where b.task_uid = s.task_uid and b.step = s.name) as cost,
                   sum(octet_length((a.launch -> 'input')::text)) over (order by u.n, s.position) as bytes_so_far
               from unnest($1::text[]) with ordinality as u (uid, n)
               join tasks t on t.uid = u.uid
               join steps s on s.task_uid = u.uid
               left join lateral (
                   select number, launch, intended_at from attempts
                   where task_uid = s.task_uid and step = s.name order by number desc limit 1) a on true)
           select n as "n!", name, outcome, reason, number as "number?", at as "at!", cost,
               case when bytes_so_far <= $2 then input end as input
           from all_steps"#,
        &uids,
        BYTES
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let place = usize::try_from(row.n).ok().and_then(|n| n.checked_sub(1));
        let task = place.and_then(|place| tasks.get_mut(place));
        let task = task.ok_or_else(|| StoreError::Corrupt(format!("step of no Task {:?}", row.name).into()))?;
        let input = match row.input {
            Some(Value::Object(input)) => Some(input),
            Some(_) | None => None,
        };
        let last = row.number.map(count).transpose()?.map(|number| PastAttempt { number, input });
        let step = PastStep {
            outcome: from_name(&row.outcome)?,
            reason: row.reason,
            at: timestamp(row.at)?,
            last,
            output: None,
            cost: row.cost.map(money).transpose()?,
        };
        task.steps.insert(row.name, step);
    }
    Ok(())
}

/// Those outputs that it takes to know what a step would be given that was never tried.
async fn outputs(connection: &mut PgConnection, tasks: &mut [PastTask]) -> Result<(), StoreError> {
    let (mut places, mut names) = (Vec::new(), Vec::new());
    for (place, task) in tasks.iter().enumerate() {
        for name in task.wanted_outputs() {
            places.push(i32::try_from(place).unwrap_or(i32::MAX));
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    let uids: Vec<String> = tasks.iter().map(|task| task.task.uid.clone()).collect();
    let rows = sqlx::query!(
        r#"with wanted as (
               select w.place, s.name, s.output_digest,
                   sum(s.output_bytes) over (order by w.place, s.position) as bytes_so_far
               from unnest($2::integer[], $3::text[]) as w (place, name)
               join steps s on s.task_uid = ($1::text[])[w.place + 1] and s.name = w.name
               where s.output_digest is not null)
           select w.place as "place!", w.name, o.body from wanted w join outputs o on o.digest = w.output_digest
           where w.bytes_so_far <= $4"#,
        &uids,
        &places,
        &names,
        BYTES
    )
    .fetch_all(connection)
    .await?;
    for row in rows {
        let task = usize::try_from(row.place).ok().and_then(|place| tasks.get_mut(place));
        let step = task.and_then(|task| task.steps.get_mut(&row.name));
        let step = step.ok_or_else(|| StoreError::Corrupt(format!("output of no step {:?}", row.name).into()))?;
        step.output = Some(Arc::new(from_bytes(&row.body)?));
    }
    Ok(())
}
