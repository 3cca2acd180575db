//! The Job of one attempt, and its pod: the sandbox's first layer.

use std::collections::BTreeMap;

use countersign_core::digest::Digest;
use countersign_core::record::Launch;
use countersign_core::sandbox::attempt_document;
use countersign_crds::{ANNOTATION_TASK, EffectClass, GATE, LABEL_ATTEMPT, Workspace};
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, EnvVar, PodSchedulingGate, PodSecurityContext, PodSpec,
    PodTemplateSpec, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Owner;
use super::secret::{ATTEMPT_FILE, TOKEN_FILE};
use crate::broker::Trust;
use crate::watch::views::SKILL_CONTAINER;

/// What the platform team sets for every sandbox.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// The runner's image, by digest.
    pub runner_image: String,
    /// How long a finished Job is kept to be looked at.
    pub ttl_seconds: i32,
    /// Whether pods get a user namespace of their own (KEP-127).
    pub user_namespaces: bool,
}

/// How long past the skill's own timeout the kubelet lets a pod live; the runner is to end it before.
const KUBELET_GRACE_SECONDS: i64 = 30;
/// Nobody: the pod's user, and the owner of what it may read.
pub(super) const UID: i64 = 65532;
/// The scratch space of a pod.
const SCRATCH: &str = "64Mi";
const RUNNER_FOLDER: &str = "/countersign/bin";
const RUNNER_PATH: &str = "/countersign/bin/runner";
const INPUT_FOLDER: &str = "/countersign/input";

pub(super) fn build(
    settings: &JobSettings,
    broker: Option<&Trust>,
    task: &Owner,
    key: &str,
    step: &str,
    launch: &Launch,
) -> Job {
    let mut metadata = task.metadata(key);
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(LABEL_ATTEMPT.to_owned(), key.to_owned());
    labels.insert("countersign.dev/step".to_owned(), step.to_owned());
    labels.insert("countersign.dev/skill".to_owned(), launch.skill.clone());
    let template = ObjectMeta {
        labels: Some(labels.clone()),
        annotations: Some(BTreeMap::from([(ANNOTATION_TASK.to_owned(), task.name.clone())])),
        ..ObjectMeta::default()
    };
    let run = i64::from(launch.timeout_seconds) + KUBELET_GRACE_SECONDS;
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".to_owned()),
            ttl_seconds_after_finished: Some(settings.ttl_seconds),
            template: PodTemplateSpec { metadata: Some(template), spec: Some(pod(settings, broker, key, launch, run)) },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn pod(settings: &JobSettings, broker: Option<&Trust>, key: &str, launch: &Launch, run: i64) -> PodSpec {
    let foreign = launch.contract.image.is_some();
    let document = Digest::of_bytes(attempt_document(key, launch));
    let env = |name: &str, value: String| EnvVar { name: name.to_owned(), value: Some(value), value_from: None };
    let mut mounts = vec![mount("input", INPUT_FOLDER, true), mount("scratch", "/tmp", false)];
    let mut volumes = vec![input_volume(key), scratch_volume("scratch", SCRATCH)];
    let mut variables = vec![
        env("COUNTERSIGN_ATTEMPT_FILE", format!("{INPUT_FOLDER}/{ATTEMPT_FILE}")),
        // The Secret could have been put there by somebody else; the pod's own spec could not.
        env("COUNTERSIGN_ATTEMPT_SHA256", document.hex()),
        env("COUNTERSIGN_REQUIRE", required(settings, launch).join(",")),
    ];
    if let Some(broker) = broker {
        variables.push(env("COUNTERSIGN_BROKER", broker.document()));
        variables.push(env("COUNTERSIGN_TOKEN_FILE", format!("{INPUT_FOLDER}/{TOKEN_FILE}")));
    }
    if launch.contract.workspace != Workspace::None {
        mounts.push(mount("workspace", "/workspace", false));
        volumes.push(scratch_volume("workspace", SCRATCH));
    }
    let mut init = None;
    if foreign {
        mounts.push(mount("runner", RUNNER_FOLDER, true));
        volumes.push(scratch_volume("runner", SCRATCH));
        init = Some(vec![installer(settings, launch)]);
    }
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        scheduling_gates: Some(vec![PodSchedulingGate { name: GATE.to_owned() }]),
        active_deadline_seconds: Some(run),
        termination_grace_period_seconds: Some(10),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        host_users: user_namespace(settings, launch).then_some(false),
        runtime_class_name: launch.contract.runtime_class_name.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(UID),
            run_as_group: Some(UID),
            fs_group: Some(UID),
            seccomp_profile: Some(runtime_default()),
            ..PodSecurityContext::default()
        }),
        init_containers: init,
        containers: vec![Container {
            name: SKILL_CONTAINER.to_owned(),
            image: Some(launch.image.clone()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: Some(vec![if foreign { RUNNER_PATH } else { "/runner" }.to_owned()]),
            env: Some(variables),
            resources: Some(resources(launch)),
            security_context: Some(locked_down()),
            termination_message_path: Some("/dev/termination-log".to_owned()),
            termination_message_policy: Some("File".to_owned()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A RuntimeClass brings a sandbox of its own, and gVisor's cannot join a user namespace that the kubelet made.
fn user_namespace(settings: &JobSettings, launch: &Launch) -> bool {
    settings.user_namespaces && launch.contract.runtime_class_name.is_none()
}

/// The layers of the sandbox without which the runner starts nothing. In a sandbox that a RuntimeClass brings Landlock
/// cannot always be had.
fn required(settings: &JobSettings, launch: &Launch) -> Vec<&'static str> {
    let mut layers = vec!["noNewPrivs", "seccomp"];
    if launch.contract.runtime_class_name.is_none() {
        layers.push("landlock");
        let harmful = match launch.contract.effect {
            EffectClass::Read | EffectClass::Write => false,
            EffectClass::External | EffectClass::Irreversible => true,
        };
        // An older runtime ignores hostUsers without a word.
        if user_namespace(settings, launch) && harmful {
            layers.push("userNamespace");
        }
    }
    layers
}

/// Copies the runner into a pod whose image is not ours.
fn installer(settings: &JobSettings, launch: &Launch) -> Container {
    Container {
        name: "install-runner".to_owned(),
        image: Some(settings.runner_image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(["/runner", "install", RUNNER_PATH].map(str::to_owned).to_vec()),
        resources: Some(resources(launch)),
        security_context: Some(locked_down()),
        volume_mounts: Some(vec![mount("runner", RUNNER_FOLDER, false)]),
        ..Container::default()
    }
}

/// Requests and limits alike: what a step gets does not depend on its neighbours.
fn resources(launch: &Launch) -> ResourceRequirements {
    let resources = &launch.contract.resources;
    let amounts = BTreeMap::from([
        ("cpu".to_owned(), Quantity(resources.cpu.clone())),
        ("memory".to_owned(), Quantity(resources.memory.clone())),
        ("ephemeral-storage".to_owned(), Quantity("128Mi".to_owned())),
    ]);
    ResourceRequirements { requests: Some(amounts.clone()), limits: Some(amounts), claims: None }
}

pub(super) fn locked_down() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        seccomp_profile: Some(runtime_default()),
        ..SecurityContext::default()
    }
}

pub(super) fn runtime_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn input_volume(key: &str) -> Volume {
    Volume {
        name: "input".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(key.to_owned()),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn scratch_volume(name: &str, size: &str) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { medium: None, size_limit: Some(Quantity(size.to_owned())) }),
        ..Volume::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_could_do_harm_needs_a_user_namespace_and_a_runtime_class_brings_its_own_sandbox() {
        let layers = |effect: &str, class: Option<&str>, user_namespaces: bool| {
            let contract = json!({"effect": effect, "builtin": {"name": "generic_action"}, "runtimeClassName": class});
            let launch = json!({"skill": "k", "contract": contract, "input": {}, "image": "i", "timeout_seconds": 1});
            let settings = JobSettings { runner_image: "i".into(), ttl_seconds: 60, user_namespaces };
            required(&settings, &serde_json::from_value(launch).unwrap()).join(",")
        };
        assert_eq!(layers("Read", None, true), "noNewPrivs,seccomp,landlock");
        assert_eq!(layers("Write", None, true), "noNewPrivs,seccomp,landlock");
        for effect in ["External", "Irreversible"] {
            assert_eq!(layers(effect, None, true), "noNewPrivs,seccomp,landlock,userNamespace");
            assert_eq!(layers(effect, None, false), "noNewPrivs,seccomp,landlock");
            assert_eq!(layers(effect, Some("gvisor"), true), "noNewPrivs,seccomp");
        }
    }
}
