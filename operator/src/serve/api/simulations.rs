//! What would become of a Task, and what changed Policies would have changed about those on record. Nothing is written,
//! neither to PostgreSQL nor to the API server.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::routing::{MethodRouter, post};
use countersign_core::budget::{Budgets, LineKey};
use countersign_core::cel::CelEvaluator;
use countersign_core::check;
use countersign_core::json::strict;
use countersign_core::judge::PolicyJudge;
use countersign_core::observed::{ExternalState, Guard, Observed, TaskView};
use countersign_core::policy::PolicySet;
use countersign_core::schema::Schema;
use countersign_core::simulate::{self, Inputs, Replay, Simulation, Surroundings, Trial};
use countersign_crds::{Policy, PolicySpec, Task, TaskSpec};
use countersign_service::causes::told;
use countersign_store::{Past, Store};
use jiff::Timestamp;
use kube::{CustomResourceExt, ResourceExt};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::access::Caller;
use super::problem::Problem;
use super::{Served, Shared};
use crate::reconciler::context::Context;
use crate::reconciler::observe::template;
use crate::watch::caches::Caches;
use crate::watch::views;
use countersign_service::clock;

/// As large as a request may be: a Task with the largest Plan that the API server takes is smaller.
const BODY_LIMIT: usize = 512 * 1024;
/// How many simulations run at once; replays, which hold more, run alone.
const AT_ONCE: u32 = 2;
/// How long a request waits for its turn, and how long it may take then.
const WAIT: Duration = Duration::from_secs(5);
const TAKES: Duration = Duration::from_secs(20);
/// How many recorded Tasks are looked at, where a request does not say, and at most.
const LAST: u32 = 50;
const MOST_TASKS: u32 = 200;
/// How many Policies can be tried at once.
const MOST_POLICIES: usize = 64;
/// What a Task that does not exist is called where a uid is needed.
const UID: &str = "simulated";

/// What simulates, beside the operator that acts: it has an evaluator of its own, and keeps nothing.
pub struct Simulator {
    context: Arc<Context>,
    judge: PolicyJudge,
    permits: Arc<Semaphore>,
}

type Simulates = Extension<Arc<Simulator>>;

/// The routes below a namespace.
pub fn of_task() -> MethodRouter<Shared> {
    post(task).layer(DefaultBodyLimit::max(BODY_LIMIT))
}

pub fn of_the_past() -> MethodRouter<Shared> {
    post(past).layer(DefaultBodyLimit::max(BODY_LIMIT))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    task: Value,
    #[serde(default)]
    policies: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AskedOfThePast {
    policies: Vec<Value>,
    last: Option<u32>,
}

async fn task(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Extension(simulator): Simulates,
    Path(namespace): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Simulation>, Problem> {
    caller.may_create(&namespace).await?;
    let Asked { task, policies } = read(body)?;
    let task = read_task(task, &namespace, &caller, &simulator.context.caches).await?;
    let policies = simulator.read_policies(policies, &namespace)?;
    let now = clock::now();
    let tried = simulator.tried(policies);
    let inputs = simulator.observe(now, &shared.store, task, tried.as_ref().map(|(set, _)| set)).await?;
    let simulation = simulator.run(1, move |judge| match tried {
        None => simulate::simulate(now, &inputs, judge),
        Some((tried, names)) => simulate::compare(now, &inputs, tried, names, judge),
    });
    Ok(Json(simulation.await?))
}

async fn past(
    State(shared): Served,
    Extension(caller): Extension<Caller>,
    Extension(simulator): Simulates,
    Path(namespace): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Replay>, Problem> {
    caller.may_read(Some(&namespace)).await?;
    let AskedOfThePast { policies, last } = read(body)?;
    let last = last.unwrap_or(LAST);
    if !(1..=MOST_TASKS).contains(&last) {
        return Err(Problem::bad_request(format!("last: {last} is not between 1 and {MOST_TASKS}")));
    }
    let Some((tried, names)) = simulator.tried(simulator.read_policies(policies, &namespace)?) else {
        return Err(Problem::bad_request("policies: is empty; send the Policies to try"));
    };
    let (now, store) = (clock::now(), shared.store.clone());
    let around = simulator.surroundings();
    let today = simulator.context.caches.policies();
    // What is read is held for as long as it is looked at, so it is read when its turn has come.
    let turn = simulator.turn(AT_ONCE).await?;
    let Past { tasks, cut } = store.past(&namespace, last).await?;
    let replay = simulator.run_in(turn, move |judge| {
        let trial = Trial { today: &today, tried: &tried, names };
        Replay { cut, ..simulate::replay(now, &namespace, &around, &tasks, trial, judge) }
    });
    Ok(Json(replay.await?))
}

type Turn = tokio::sync::OwnedSemaphorePermit;

impl Simulator {
    pub fn new(context: Arc<Context>) -> Simulator {
        let judge = PolicyJudge::new(CelEvaluator::new());
        Simulator { context, judge, permits: Arc::new(Semaphore::new(AT_ONCE as usize)) }
    }

    async fn turn(&self, places: u32) -> Result<Turn, Problem> {
        match timeout(WAIT, Arc::clone(&self.permits).acquire_many_owned(places)).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Problem::unavailable("too many simulations at once; try again")),
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        places: u32,
        job: impl FnOnce(&PolicyJudge) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.run_in(self.turn(places).await?, job).await
    }

    /// On a thread of the evaluator, where evaluating costs least and nothing else waits for it.
    async fn run_in<T: Send + 'static>(
        &self,
        turn: Turn,
        job: impl FnOnce(&PolicyJudge) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let judge = self.judge.clone();
        let blocking = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let evaluator = judge.evaluator().clone();
            evaluator.within(TAKES, move || job(&judge))
        });
        let ran = blocking.await.map_err(|error| error.to_string());
        ran.and_then(|ran| ran.map_err(|error| error.to_string())).map_err(|why| {
            tracing::warn!(%why, "a simulation came to no end");
            Problem::unavailable(format!("the simulation came to no end: {why}; ask for less, or try again"))
        })
    }

    /// What a reconciliation of the Task would see, if it were there.
    async fn observe(
        &self,
        now: Timestamp,
        store: &Store,
        task: TaskView,
        tried: Option<&PolicySet>,
    ) -> Result<Inputs, Problem> {
        let Context { client, caches, config, operator_namespace, networks, .. } = &*self.context;
        if !caches.missing().is_empty() {
            return Err(Problem::unavailable("the operator has not seen yet what is installed; try again"));
        }
        let template = template(client, operator_namespace, &task).await.map_err(|error| {
            tracing::warn!(error = told(&error), "the Plan of a simulation was not read");
            Problem::unavailable("the API server cannot be asked for the Task's Plan; try again")
        })?;
        let agent = caches.acting(&task.namespace, task.spec.agent_ref.as_ref(), task.spec.requester.as_ref());
        let policies = caches.policies();
        let lines = [Some(&*policies), tried]
            .into_iter()
            .flatten()
            .flat_map(|policies| Budgets::of(now, &task, agent.agent(), policies).lines);
        let keys: BTreeSet<LineKey> = lines.map(|line| line.key).collect();
        let balances = store.balances(&keys.into_iter().collect::<Vec<_>>()).await?;
        let observed = Observed {
            network: networks.of(&task.namespace),
            task: Some(task),
            record: None,
            namespace_uid: String::new(),
            prior: None,
            template,
            plan_snapshot_exists: false,
            skills: caches.skills(),
            agent,
            policies,
            secrets: caches.secrets(),
            approvals: BTreeMap::new(),
            pods: Vec::new(),
            jobs: BTreeSet::new(),
            guard: Guard::NotNeeded,
            outputs: BTreeMap::new(),
            balances,
            external: ExternalState::default(),
            lasts: Default::default(),
        };
        let skills: Vec<String> = simulate::skills_of(&observed).into_iter().collect();
        let history = store.history(&skills).await?;
        Ok(Inputs { config: config.clone(), observed, history, outputs: BTreeMap::new() })
    }

    fn surroundings(&self) -> Surroundings {
        let Context { caches, config, .. } = &*self.context;
        Surroundings {
            config: config.clone(),
            skills: caches.skills(),
            agents: caches.agents().into_iter().map(|(place, agent)| (place, agent.spec)).collect(),
            secrets: caches.secrets(),
        }
    }

    fn read_policies(&self, policies: Vec<Value>, namespace: &str) -> Result<Vec<Tried>, Problem> {
        if policies.len() > MOST_POLICIES {
            return Err(Problem::bad_request(format!("policies: {} of them; at most {MOST_POLICIES}", policies.len())));
        }
        let operator_namespace = &self.context.operator_namespace;
        let read = |(index, policy)| read_policy(policy, &format!("policies[{index}]"), namespace, operator_namespace);
        policies.into_iter().enumerate().map(read).collect()
    }

    /// The Policies that there are with those that are tried, and the names of the latter.
    fn tried(&self, policies: Vec<Tried>) -> Option<(PolicySet, Vec<String>)> {
        if policies.is_empty() {
            return None;
        }
        let names = policies.iter().map(|(namespace, name, _)| format!("{namespace}/{name}")).collect();
        let Context { caches, operator_namespace, .. } = &*self.context;
        Some((caches.policies().with(operator_namespace, policies), names))
    }
}

/// A Policy that is tried: its namespace, its name and what it says.
type Tried = (String, String, PolicySpec);

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let body = body.map_err(|_| Problem::too_large(format!("the request is larger than {BODY_LIMIT} bytes")))?;
    let value = strict::parse(&body).map_err(|error| Problem::bad_request(format!("the request: {error}")))?;
    typed(value, "")
}

/// Names the member that is not of its type.
fn typed<T: DeserializeOwned>(value: Value, field: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let (path, error) = (error.path().to_string(), error.inner());
        Problem::bad_request(match (field, path.as_str()) {
            ("", ".") => error.to_string(),
            ("", path) => format!("{path}: {error}"),
            (field, ".") => format!("{field}: {error}"),
            (field, path) => format!("{field}.{path}: {error}"),
        })
    })
}

/// The schemas that the API server holds objects against before it lets anybody see them.
static TASK: LazyLock<Option<Schema>> = LazyLock::new(schema::<Task>);
static POLICY: LazyLock<Option<Schema>> = LazyLock::new(schema::<Policy>);

fn schema<K: CustomResourceExt>() -> Option<Schema> {
    let version = K::crd().spec.versions.into_iter().next()?;
    let schema = serde_json::to_value(version.schema?.open_api_v3_schema?).ok()?;
    Schema::compile(schema.pointer("/properties/spec")?).ok()
}

fn check_schema(schema: Option<&Schema>, object: &Value, field: &str) -> Result<(), Problem> {
    let (Some(schema), Some(spec)) = (schema, object.get("spec")) else { return Ok(()) };
    schema.validate(spec).map_err(|violations| {
        let said = violations.iter().map(|violation| format!("{field}.spec.{violation}"));
        Problem::bad_request(said.collect::<Vec<_>>().join("; "))
    })
}

fn check_kind(object: &Value, kind: &str, field: &str) -> Result<(), Problem> {
    match object.get("kind").and_then(Value::as_str) {
        Some(found) if found != kind => Err(Problem::bad_request(format!("{field}.kind: is {found}, not {kind}"))),
        _ => Ok(()),
    }
}

/// How many problems one answer holds.
const PROBLEMS: usize = 10;

fn checked(result: Result<(), Vec<check::Problem>>, field: &str) -> Result<(), Problem> {
    result.map_err(|problems| {
        let mut said: Vec<String> =
            problems.iter().take(PROBLEMS).map(|problem| format!("{field}.{problem}")).collect();
        if problems.len() > PROBLEMS {
            said.push(format!("and {} more", problems.len() - PROBLEMS));
        }
        Problem::bad_request(said.join("; "))
    })
}

/// The Task as it would be admitted, asked for by the caller.
async fn read_task(object: Value, namespace: &str, caller: &Caller, caches: &Caches) -> Result<TaskView, Problem> {
    check_kind(&object, "Task", "task")?;
    check_schema(TASK.as_ref(), &object, "task")?;
    let mut task: Task = typed(object, "task")?;
    let place = task.namespace();
    if let Some(other) = place.filter(|place| place != namespace) {
        let message = format!("task.metadata.namespace: is {other}, and the path says {namespace}; leave it out");
        return Err(Problem::bad_request(message));
    }
    let spec = &task.spec;
    if [spec.task_type.is_some(), spec.plan_ref.is_some(), spec.plan.is_some()].iter().filter(|set| **set).count() != 1
    {
        return Err(Problem::bad_request("task.spec: set exactly one of type, planRef and plan"));
    }
    task.spec.requester = caller.requester()?;
    act(&mut task.spec, namespace, caller, caches).await?;
    checked(check::task(&task.spec), "task")?;
    let metadata = &mut task.metadata;
    let name = metadata.name.take().or_else(|| metadata.generate_name.take());
    metadata.name = Some(name.unwrap_or_else(|| UID.to_owned()));
    metadata.namespace = Some(namespace.to_owned());
    metadata.uid = Some(UID.to_owned());
    task.status = None;
    // What it asks for is simulated, whichever run it was.
    let asked = views::task(&task).map(|task| TaskView { mark: None, ..task });
    asked.ok_or_else(|| Problem::bad_request("task: has no name"))
}

/// As whom the caller acts: as the Agent that it is bound to, or as one that it names and may use.
async fn act(spec: &mut TaskSpec, namespace: &str, caller: &Caller, caches: &Caches) -> Result<(), Problem> {
    if !caches.missing().is_empty() {
        return Err(Problem::unavailable("the operator has not seen yet what is installed; try again"));
    }
    let Some(requester) = &spec.requester else { return Ok(()) };
    let bound = caches.bound(namespace, spec.agent_ref.as_ref(), requester);
    match (bound.map_err(|error| Problem::forbidden(format!("task.{error}")))?, &spec.agent_ref) {
        (Some(agent), _) => {
            spec.agent_ref = Some(agent);
            Ok(())
        }
        (None, Some(named)) => caller.may_act_as(namespace, named).await,
        (None, None) => Ok(()),
    }
}

fn read_policy(object: Value, field: &str, namespace: &str, operator_namespace: &str) -> Result<Tried, Problem> {
    check_kind(&object, "Policy", field)?;
    check_schema(POLICY.as_ref(), &object, field)?;
    let policy: Policy = typed(object, field)?;
    let place = policy.namespace().unwrap_or_else(|| namespace.to_owned());
    let Some(name) = policy.metadata.name else {
        return Err(Problem::bad_request(format!("{field}.metadata.name: is not set; name the Policy")));
    };
    checked(check::policy(&policy.spec, place == operator_namespace), field)?;
    Ok((place, name, policy.spec))
}
