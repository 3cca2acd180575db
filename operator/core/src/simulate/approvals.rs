//! Which signatures will be asked for, and of whom.

use std::time::Duration;

use countersign_crds::{Required, RiskClass};

use super::simulation::ApprovalOutlook;
use crate::escape::shown;
use crate::observed::TaskView;
use crate::record::{Change, RecordedPlan};

/// In the order in which they are asked for.
pub(super) fn outlook(task: &TaskView, plan: &RecordedPlan, changes: &[Change]) -> Vec<ApprovalOutlook> {
    let asked = |change: &Change| {
        let Change::RequestApproval { covers, required, scope, risk, expires_at, at, .. } = change else {
            return None;
        };
        let Required { count, groups, service_accounts, excluded: _ } = required.clone();
        let after = Duration::try_from(expires_at.duration_since(*at)).unwrap_or_default();
        Some(ApprovalOutlook {
            steps: plan
                .steps
                .iter()
                .map(|step| &step.name)
                .filter(|step| covers.contains_key(*step))
                .cloned()
                .collect(),
            count,
            groups,
            service_accounts,
            risk: *risk,
            scope: *scope,
            expires_after_seconds: after.as_secs(),
            from: from(task, required, *risk),
        })
    };
    changes.iter().filter_map(asked).collect()
}

/// Who may sign, in words.
fn from(task: &TaskView, required: &Required, risk: RiskClass) -> String {
    let Required { count, groups, service_accounts, excluded } = required;
    let requester = task.spec.requester.as_ref().map(|who| shown(&who.user));
    let other = requester.unwrap_or_else(|| "whoever asks for it".to_owned());
    let who = match count {
        1 => format!("one person other than {other}, with"),
        count => format!("{count} different people other than {other}, each with"),
    };
    let right = format!("the right to approve riskclasses/{} in namespace {}", risk.resource_name(), task.namespace);
    let groups = match groups.as_slice() {
        [] => String::new(),
        groups => {
            let groups: Vec<String> = groups.iter().map(|group| shown(group)).collect();
            format!("; among them somebody of each of: {}", groups.join(", "))
        }
    };
    let accounts = match service_accounts.as_slice() {
        [] => "; no service account".to_owned(),
        accounts => format!("; of service accounts only {}", accounts.join(", ")),
    };
    let excluded = match excluded.as_slice() {
        [] => String::new(),
        excluded => {
            let excluded: Vec<String> = excluded.iter().map(|subject| shown(&subject.to_string())).collect();
            format!("; never {}", excluded.join(", "))
        }
    };
    format!("{who} {right}{groups}{accounts}{excluded}")
}
