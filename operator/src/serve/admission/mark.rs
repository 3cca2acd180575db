//! The mark of a run on a Task: the operator writes it, whoever restores a backup may send it, and nobody alters it.

use std::sync::Arc;

use countersign_core::mark::{Mark, MarkError};
use countersign_core::run::PriorRun;
use countersign_crds::{ANNOTATION_RUN, Identity};
use countersign_service::causes::told;
use countersign_store::{Store, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::DynamicObject;
use kube::core::admission::Operation;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::review::{self, Refusal, Review};

/// The run of the Task of a uid, as the record knows it.
pub type Runs = dyn Fn(String) -> BoxFuture<'static, Result<Option<PriorRun>, StoreError>> + Send + Sync;

/// As the store keeps them.
pub fn runs_of(store: Store) -> Arc<Runs> {
    Arc::new(move |uid: String| {
        let store = store.clone();
        async move { store.run(&uid).await }.boxed()
    })
}

/// Of which run an object says that it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Marked {
    /// Of none.
    Not,
    /// Of one that there was in its namespace, which that user asked for; `None` where nobody knows who did.
    Run { requester: Option<Identity> },
}

/// What a Task that is created says of itself, which is asked of the record.
///
/// # Errors
/// It carries a mark that is no mark, is of another namespace, or of a run that the record does not know.
pub async fn read(client: &Client, runs: &Runs, request: &Review) -> Result<Marked, Refusal> {
    if request.operation != Operation::Create || review::resource(request) != "tasks" {
        return Ok(Marked::Not);
    }
    let Some(text) = of(request.object.as_ref()) else { return Ok(Marked::Not) };
    let mark: Mark = text.parse().map_err(refused)?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let place = namespaces.get_metadata(namespace).await.map_err(|error| unknown(&error))?;
    let run = runs(mark.task_uid.clone()).await.map_err(|error| unknown(&error))?;
    let run = mark.run(place.metadata.uid.as_deref().unwrap_or_default(), run.as_ref()).map_err(refused)?;
    let user = Some(run.key.requester.clone()).filter(|user| !user.is_empty());
    Ok(Marked::Run { requester: user.map(|user| Identity { user, uid: None, groups: Vec::new() }) })
}

/// What keeps the mark of a Task that is there, where a change leaves it out, as what Git holds does.
///
/// # Errors
/// Somebody but the operator adds or changes it.
pub fn kept(by_operator: bool, request: &Review) -> Result<Option<Value>, Refusal> {
    let (new, old) = (of(request.object.as_ref()), of(request.old_object.as_ref()));
    if by_operator || new == old {
        return Ok(None);
    }
    let Some(old) = old.filter(|_| new.is_none()) else {
        return Err(Refusal::forbidden(&format!(
            "metadata.annotations[{ANNOTATION_RUN}]: only the operator says which run a Task is; leave it out of the change"
        )));
    };
    let annotated = request.object.as_ref().is_some_and(|object| object.metadata.annotations.is_some());
    let (path, value) = if annotated {
        (format!("/metadata/annotations/{}", ANNOTATION_RUN.replace('/', "~1")), json!(old))
    } else {
        ("/metadata/annotations".to_owned(), json!({ANNOTATION_RUN: old}))
    };
    Ok(Some(json!({"op": "add", "path": path, "value": value})))
}

fn of(object: Option<&DynamicObject>) -> Option<&String> {
    object.and_then(|object| object.annotations().get(ANNOTATION_RUN))
}

fn refused(error: MarkError) -> Refusal {
    Refusal::invalid(&error.to_string())
}

fn unknown(error: &dyn std::error::Error) -> Refusal {
    let message = format!(
        "metadata.annotations[{ANNOTATION_RUN}]: it cannot be known whose run this is ({}); try again",
        told(error)
    );
    Refusal { code: 503, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_core::approval::Seal;
    use countersign_core::digest::Digest;
    use countersign_core::run::RunKey;
    use jiff::Timestamp;
    use kube::client::Body;
    use serde_json::Map;

    use crate::serve::admission::review::{Admitted, Mutation};

    const OPERATOR: &str = "system:serviceaccount:ops:countersign";

    /// An API server in which the namespace has the uid `here`.
    fn client() -> Client {
        let answer = tower::service_fn(|_: axum::http::Request<Body>| async {
            let namespace = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                "metadata": {"name": "ns", "uid": "here"}});
            Ok::<_, std::convert::Infallible>(axum::http::Response::new(axum::body::Body::from(namespace.to_string())))
        });
        Client::new(answer, "default")
    }

    /// A record in which dave asked for the run of the Task `known`, somebody for `nobodys`, and which breaks on `broken`.
    fn runs() -> Arc<Runs> {
        Arc::new(|uid: String| {
            let run = |requester: &str| PriorRun {
                uid: uid.clone(),
                key: RunKey {
                    namespace_uid: "here".into(),
                    name: "x".into(),
                    requester: requester.into(),
                    content: Digest::of_bytes("{}"),
                },
                finished: None,
            };
            let found = match uid.as_str() {
                "known" => Ok(Some(run("dave"))),
                "nobodys" => Ok(Some(run(""))),
                "broken" => Err(StoreError::Corrupt("it is".into())),
                _ => Ok(None),
            };
            Box::pin(std::future::ready(found))
        })
    }

    /// A Task with these annotations, which names a requester and an Agent.
    fn task(annotations: Option<Value>) -> Value {
        let mut metadata = Map::from_iter([("name".to_owned(), json!("x"))]);
        metadata.extend(annotations.map(|annotations| ("annotations".to_owned(), annotations)));
        json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": metadata,
            "spec": {"type": "t", "requester": {"user": "boss"}, "agentRef": {"name": "free"}}})
    }

    fn marked(mark: &str) -> Value {
        task(Some(json!({ANNOTATION_RUN: mark})))
    }

    async fn ask(user: &str, new: Value, old: Option<Value>) -> Result<Mutation, Refusal> {
        let operation = if old.is_some() { "UPDATE" } else { "CREATE" };
        let request: Review = serde_json::from_value(json!({
            "uid": "1", "name": "x", "namespace": "ns", "operation": operation, "object": new, "oldObject": old,
            "kind": {"group": "countersign.dev", "version": "v1alpha1", "kind": "Task"},
            "resource": {"group": "countersign.dev", "version": "v1alpha1", "resource": "tasks"},
            "userInfo": {"username": user, "groups": ["people"]}, "options": null, "dryRun": false,
        }))
        .unwrap();
        let marked = read(&client(), &*runs(), &request).await?;
        let seal = Seal::from_secret(&[7; 32]).unwrap();
        review::mutate(Timestamp::UNIX_EPOCH, OPERATOR, &seal, &|_, _, _| Ok(None), marked, &request)
    }

    #[tokio::test]
    async fn a_task_that_is_restored_keeps_the_requester_of_its_run_and_nobody_acts_as_its_agent() {
        let dave = json!([{"op": "add", "path": "/spec/requester", "value": {"user": "dave"}}]);
        let restored = ask("velero", marked("here/known"), None).await.unwrap();
        assert_eq!(restored, Mutation { admitted: Admitted::Patched(dave), takes: None });
        let nobody = json!([{"op": "remove", "path": "/spec/requester"}]);
        let nobodys = ask("velero", marked("here/nobodys"), None).await.unwrap();
        assert_eq!(nobodys.admitted, Admitted::Patched(nobody));
        // Without a mark it is the request of whoever sends it.
        let own = ask("velero", task(Some(json!({"other": "x"}))), None).await.unwrap();
        let Admitted::Patched(patch) = own.admitted else { panic!("not stamped") };
        assert_eq!(patch[0]["value"], json!({"user": "velero", "groups": ["people"]}));
        assert!(own.takes.is_some());
    }

    #[tokio::test]
    async fn a_mark_of_another_namespace_or_of_no_run_is_refused_with_annotation_and_fix() {
        for (mark, said) in [
            ("there/known", "the mark of a run in another namespace"),
            ("here/unknown", "the record knows no run of the Task with uid unknown"),
            ("known", "\"known\" is not NAMESPACE_UID/TASK_UID"),
            ("", "is not NAMESPACE_UID/TASK_UID"),
        ] {
            let Refusal { code, message } = ask("velero", marked(mark), None).await.unwrap_err();
            assert!(code == 422 && message.contains(said), "{message}");
            assert!(message.starts_with("metadata.annotations[countersign.dev/run]: "), "{message}");
            let fix = "remove metadata.annotations[countersign.dev/run] to ask for a run of your own";
            assert!(message.contains(fix), "{message}");
        }
        let unasked = ask("velero", marked("here/broken"), None).await.unwrap_err();
        assert!(unasked.code == 503 && unasked.message.ends_with("try again"), "{}", unasked.message);
    }

    #[tokio::test]
    async fn only_the_operator_writes_the_mark_of_a_task_that_is_there() {
        let (bare, ours, other) = (task(None), marked("here/known"), marked("here/other"));
        for (user, new, old, allowed) in [
            (OPERATOR, &ours, &bare, true),
            ("dave", &ours, &ours, true),
            ("dave", &ours, &bare, false),
            ("dave", &other, &ours, false),
            ("system:admin", &other, &ours, false),
        ] {
            let answer = ask(user, new.clone(), Some(old.clone())).await;
            assert_eq!(answer.is_ok(), allowed, "{user}: {answer:?}");
            if let Err(Refusal { code, message }) = answer {
                assert!(code == 403 && message.contains("only the operator says which run a Task is"), "{message}");
            }
        }
    }

    #[tokio::test]
    async fn what_git_holds_leaves_the_mark_out_and_it_stays() {
        let whole = json!({"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION_RUN: "here/known"}});
        let member = json!({"op": "add", "path": "/metadata/annotations/countersign.dev~1run", "value": "here/known"});
        for (new, kept) in [(task(None), whole), (task(Some(json!({"other": "x"}))), member)] {
            let applied = ask("flux", new, Some(marked("here/known"))).await.unwrap();
            assert_eq!(applied.admitted, Admitted::Patched(json!([kept])));
        }
    }
}
