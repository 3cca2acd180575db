//! Puts what will run before people: with what earlier steps returned, and how it differs from what was approved last.

use countersign_core::approval::{Missing, readable};
use countersign_core::digest;
use countersign_core::plan::CompiledStep;
use countersign_core::record::{Covered, TaskRecord};
use countersign_crds::{Approval, ApprovalSpec, EarlierOutput, Required, SinceLastApproved, Step, Subject};
use countersign_store::StoreError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use serde_json::json;

use super::{FIELD_MANAGER, Owner, in_namespace_that_goes};
use crate::reconciler::context::Context;
use crate::reconciler::error::Error;
use crate::reconciler::events;

/// How many outputs are shown.
const OUTPUTS: usize = 16;

pub(super) async fn create(
    context: &Context,
    task: &Owner,
    record: &TaskRecord,
    name: &str,
    spec: &ApprovalSpec,
) -> Result<(), Error> {
    let mut spec = spec.clone();
    brief(context, record, name, &spec.step.clone(), &mut spec.subject).await?;
    for covered in &mut spec.covers {
        brief(context, record, name, &covered.step.clone(), &mut covered.subject).await?;
    }
    let mut spec = readable(spec);
    fit(&mut spec);
    let mut approval = Approval::new(name, spec);
    approval.metadata = task.metadata(name);
    let approvals: Api<Approval> = task.api(&context.client);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match approvals.create(&params, &approval).await {
        Ok(made) => {
            let Required { count, groups, service_accounts: _, excluded: _ } = made.spec.required.clone();
            let missing = Missing { people: count as usize, groups };
            let (step, until) = (&made.spec.step, made.spec.expires_at.0);
            let note = format!("step {step} of Task {} waits for {missing}, until {until}", task.name);
            let uid = made.uid().unwrap_or_default();
            events::tell(&context.recorder, &task.namespace, name, uid, events::requested(note)).await;
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() || in_namespace_that_goes(&status) => Ok(()),
        Err(source) => Err(Error::Action { action: "create_approval", source }),
    }
}

/// Adds what the store knows. It is shown and not signed for: the digest is of the input that came of it.
async fn brief(
    context: &Context,
    record: &TaskRecord,
    approval: &str,
    step: &str,
    subject: &mut Subject,
) -> Result<(), StoreError> {
    let mut steps = record.plan.iter().flat_map(|plan| &plan.steps);
    let earlier = steps.find(|spec| spec.name == step).map(earlier).unwrap_or_default();
    if !earlier.is_empty() {
        let outputs = context.store.outputs(&record.uid, &earlier).await?;
        let shown = outputs.into_iter().map(|(step, output)| EarlierOutput {
            step,
            digest: digest::of_json(&output).map(|digest| digest.to_string()).unwrap_or_default(),
            output: output.to_string(),
        });
        subject.earlier = shown.collect();
    }
    let covered = record.approvals.get(approval).and_then(|approval| approval.covers.get(step));
    if let (Some(covered), Some(last)) = (covered, context.store.last_approved(&record.uid, step).await?) {
        let Covered { attempt: _, digest: _, binding, rules: _ } = covered;
        let both = last.binding.zip(binding.as_ref());
        subject.since_last_approved = both.map(|(before, now)| SinceLastApproved {
            approval: last.approval,
            at: Time(last.at),
            differences: before.differences_between_runs(now),
        });
    }
    Ok(())
}

/// The most bytes of JSON that an Approval may have; etcd takes requests of 1.5 MiB, and decisions are still to come.
const MOST_BYTES: usize = 1 << 20;

/// Leaves out what is shown and not signed for where an Approval would be larger than etcd takes: the longest first.
fn fit(spec: &mut ApprovalSpec) {
    let size = |value: serde_json::Value| value.to_string().len();
    let shown = |subject: &Subject| size(json!([subject.earlier, subject.since_last_approved]));
    let mut left = size(json!(spec));
    while left > MOST_BYTES {
        let subjects =
            std::iter::once(&mut spec.subject).chain(spec.covers.iter_mut().map(|covered| &mut covered.subject));
        let Some(longest) = subjects.max_by_key(|subject| shown(subject)) else { return };
        let before = shown(longest);
        longest.earlier = Vec::new();
        longest.since_last_approved = None;
        let saved = before - shown(longest);
        if saved == 0 {
            return;
        }
        left -= saved;
    }
}

/// The steps whose outputs a reader wants to see: those that the input is made of, then those that it waited for.
fn earlier(step: &Step) -> Vec<String> {
    let referenced = CompiledStep::compile(step, &step.name).map(|compiled| compiled.referenced_steps());
    let mut names: Vec<String> = referenced.unwrap_or_default().into_iter().collect();
    let others = step.all_needs().map(|need| need.step.to_owned());
    let others: Vec<String> = others.filter(|need| !names.contains(need)).collect();
    names.extend(others);
    names.truncate(OUTPUTS);
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_input_is_made_of_comes_before_what_was_only_waited_for() {
        let earlier = |step: serde_json::Value| earlier(&serde_json::from_value(step).unwrap());
        let step = json!({"name": "e", "skill": "k", "needs": ["a", "d"], "when": "steps.c.output.ok",
            "input": {"x": {"y": "${steps.b.output.n} of ${steps.d.output.n}"}}});
        assert_eq!(earlier(step), ["b", "c", "d", "a"]);
        let needs: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
        let many = json!({"name": "e", "skill": "k", "needs": needs, "input": {"x": "${steps.z.output}"}});
        let shown = earlier(many);
        assert_eq!((shown.len(), shown[0].as_str()), (OUTPUTS, "z"), "as many as an Approval holds");
        assert_eq!(earlier(json!({"name": "e", "skill": "k"})), [""; 0]);
    }
}
