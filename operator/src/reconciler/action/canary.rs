//! The canary's Job: a pod like a sandbox's, but for what it runs.

use std::collections::BTreeMap;

use countersign_crds::LABEL_ATTEMPT;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Container, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::JobSettings;
use super::job::{UID, locked_down, runtime_default};

const SECONDS: i64 = 60;

pub fn build(settings: &JobSettings, targets: &str) -> Job {
    // The label by which NetworkPolicies know a sandbox; without a Task's, nobody takes it for an attempt.
    let labels = BTreeMap::from([(LABEL_ATTEMPT.to_owned(), "canary".to_owned())]);
    let amounts = [("cpu", "20m"), ("memory", "32Mi"), ("ephemeral-storage", "16Mi")];
    let amounts: BTreeMap<_, _> = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).into();
    let pod = PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(SECONDS),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        containers: vec![Container {
            name: "canary".to_owned(),
            image: Some(settings.runner_image.clone()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: Some(["/runner", "canary", targets].map(str::to_owned).to_vec()),
            resources: Some(ResourceRequirements {
                requests: Some(amounts.clone()),
                limits: Some(amounts),
                claims: None,
            }),
            security_context: Some(locked_down()),
            ..Container::default()
        }],
        ..PodSpec::default()
    };
    Job {
        metadata: ObjectMeta { generate_name: Some("countersign-canary-".to_owned()), ..ObjectMeta::default() },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(SECONDS),
            ttl_seconds_after_finished: Some(60),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}
