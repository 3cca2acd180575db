//! A simulation as people read it: first whether it is feasible, then what it costs, how long it takes, and the rest.

use std::fmt::Write;

use countersign_core::budget::Window;
use countersign_core::escape::{printable, shown};
use countersign_core::simulate::{
    ApprovalOutlook, BudgetOutlook, Comparison, Finding, Replay, Risk, Simulation, StepDecision, StepOutlook,
};
use countersign_crds::BudgetVerdict;
use jiff::SignedDuration;

use crate::text::{span, table};

/// How many names stand in one line.
const NAMES: usize = 8;

pub fn simulation(simulation: &Simulation) -> String {
    let Simulation {
        version: _,
        at: _,
        namespace,
        task,
        feasible,
        obstacles,
        plan,
        cost,
        duration,
        steps,
        approvals,
        budgets,
        irreversible_steps,
        risks,
        comparison,
    } = simulation;
    let mut out = String::new();
    // Writing to a String cannot fail.
    let verdict = if *feasible { "FEASIBLE" } else { "NOT FEASIBLE" };
    let tried = comparison.as_ref().map_or("", |_| " with the Policies that are tried");
    let _ = writeln!(out, "{verdict}: Task {} in namespace {}{tried}", printable(task), printable(namespace));
    for obstacle in obstacles {
        let step = obstacle.step.as_ref().map(|step| format!("step {}: ", printable(step))).unwrap_or_default();
        let _ = writeln!(out, "  {step}{}: {}", obstacle.reason, printable(&obstacle.message));
    }
    if let Some(plan) = plan {
        let _ = writeln!(out);
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<12}{value}");
        };
        let steps = if plan.steps == 1 { "1 step".to_owned() } else { format!("{} steps", plan.steps) };
        line("Plan", format!("{}, {steps}, at most {} at once", printable(&plan.source), plan.parallelism));
        let unpriced = if cost.complete { "" } else { ", besides what nobody knows the price of" };
        line(
            "Cost",
            format!("{} expected, at least {}, at most {}{unpriced}", cost.expected, cost.minimum, cost.maximum),
        );
        let (usual, long) = (seconds(duration.p50_seconds), seconds(duration.p95_seconds));
        line("Duration", format!("{usual} usually, {long} where every step is slow"));
        line("Path", names(&duration.critical_path, " > "));
        if !irreversible_steps.is_empty() {
            line("For good", names(irreversible_steps, ", "));
        }
    }
    section(&mut out, "Steps", steps_of(steps));
    if let Some(comparison) = comparison {
        compared(&mut out, comparison);
    }
    section(&mut out, "Approvals", approvals.iter().map(approval).collect());
    section(&mut out, "Budgets", budgets_of(budgets));
    section(&mut out, "Risks", risks.iter().map(risk).collect());
    out.trim_end().to_owned()
}

/// Rows below a heading; nothing where there are none.
fn section(out: &mut String, heading: &str, rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{heading}");
    for line in table(&rows).lines() {
        let _ = writeln!(out, "  {line}");
    }
}

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn steps_of(steps: &[StepOutlook]) -> Vec<Vec<String>> {
    if steps.is_empty() {
        return Vec::new();
    }
    let row = |step: &StepOutlook| {
        let skill = match &step.downgraded_from {
            Some(planned) => format!("{} for {}", printable(&step.skill), printable(planned)),
            None => printable(&step.skill),
        };
        let open = if step.certain { "" } else { "?" };
        vec![
            printable(&step.name),
            skill,
            step.effect.as_str().to_owned(),
            format!("{}{open}", decision(step.decision)),
            step.cost.expected.to_string(),
            step.cost.maximum.to_string(),
            seconds(step.starts_after_seconds),
            seconds(step.duration.p50_seconds),
            why(step),
        ]
    };
    let names = ["STEP", "SKILL", "EFFECT", "DECISION", "COST", "AT MOST", "AFTER", "TAKES", "WHY"];
    [head(&names)].into_iter().chain(steps.iter().map(row)).collect()
}

fn decision(decision: StepDecision) -> &'static str {
    match decision {
        StepDecision::Allow => "Allow",
        StepDecision::RequireApproval => "RequireApproval",
        StepDecision::Deny => "Deny",
        StepDecision::Skip => "Skip",
        StepDecision::Invalid => "Invalid",
        StepDecision::Wait => "Wait",
        StepDecision::Undetermined => "Undetermined",
    }
}

/// What is worth saying of a step in a few words.
fn why(step: &StepOutlook) -> String {
    let mut words: Vec<String> = step.message.iter().map(|message| printable(message)).collect();
    if let Some(budget) = &step.budget {
        let message = budget.message.as_deref().map(printable).unwrap_or_default();
        match (budget.verdict, budget.until) {
            (BudgetVerdict::Allowed, _) => {}
            (BudgetVerdict::Downgraded, _) => words.push(message),
            (BudgetVerdict::Deferred, Some(until)) => words.push(format!("deferred until {until}: {message}")),
            (BudgetVerdict::Deferred, None) => words.push(format!("deferred: {message}")),
            // The step's own message says it.
            (BudgetVerdict::Rejected, _) => {}
        }
    }
    if !step.not_known.is_empty() {
        words.push(format!("not known yet: {}", names(&step.not_known, ", ")));
    }
    if !step.undetermined.is_empty() {
        let rules: Vec<String> =
            step.undetermined.iter().map(|rule| format!("{}, {}", rule.policy, rule.rule)).collect();
        words.push(format!("rules that wait for it: {}", names(&rules, "; ")));
    }
    words.join("; ")
}

fn approval(approval: &ApprovalOutlook) -> Vec<String> {
    let within = SignedDuration::from_secs(i64::try_from(approval.expires_after_seconds).unwrap_or(i64::MAX));
    vec![names(&approval.steps, ", "), format!("within {}", span(within)), printable(&approval.from)]
}

fn budgets_of(budgets: &[BudgetOutlook]) -> Vec<Vec<String>> {
    if budgets.is_empty() {
        return Vec::new();
    }
    let row = |budget: &BudgetOutlook| {
        let window = match budget.window {
            Window::Hour | Window::Day | Window::Month => {
                format!("{} of {:.16}Z", budget.window.as_str(), budget.starts_at.to_string())
            }
            Window::Total => "Total".to_owned(),
        };
        let limit = match &budget.cap {
            Some(cap) => format!("{cap} of {}", budget.limit),
            None => budget.limit.to_string(),
        };
        vec![
            budget.scope.as_str().to_owned(),
            shown(&budget.subject),
            window,
            limit,
            budget.spent_before.to_string(),
            budget.spent.to_string(),
            budget.held.to_string(),
            budget.left.to_string(),
        ]
    };
    let names = ["SCOPE", "OF", "WINDOW", "LIMIT", "SPENT NOW", "THEN", "HELD", "LEFT"];
    [head(&names)].into_iter().chain(budgets.iter().map(row)).collect()
}

fn risk(risk: &Risk) -> Vec<String> {
    let of = if risk.steps.is_empty() { "all of it".to_owned() } else { names(&risk.steps, ", ") };
    vec![format!("{:?}", risk.kind), of, printable(&risk.message)]
}

fn compared(out: &mut String, comparison: &Comparison) {
    let Comparison { policies, feasible_today, cost_today, differences } = comparison;
    let today = if *feasible_today { "feasible" } else { "not feasible" };
    let _ = writeln!(out, "\nTried {}; without it {today}, {} expected", names(policies, ", "), cost_today.expected);
    if differences.is_empty() {
        let _ = writeln!(out, "  nothing else would be decided");
        return;
    }
    let row = |difference: &countersign_core::simulate::StepDifference| {
        let (today, tried) = (&difference.today, &difference.tried);
        vec![printable(&difference.step), finding(today), finding(tried), reasons(tried)]
    };
    let rows = [head(&["STEP", "TODAY", "TRIED", "WHY"])].into_iter().chain(differences.iter().map(row));
    for line in table(&rows.collect::<Vec<_>>()).lines() {
        let _ = writeln!(out, "  {line}");
    }
}

/// What is decided, in a few words.
fn finding(finding: &Finding) -> String {
    let mut words = vec![decision(finding.decision).to_owned()];
    if let Some(required) = &finding.required {
        words.push(format!("({} to sign)", required.count));
    }
    match finding.budget {
        None | Some(BudgetVerdict::Allowed) => {}
        Some(verdict) => words.push(verdict.as_str().to_owned()),
    }
    words.push(printable(&finding.skill));
    words.join(" ")
}

fn reasons(finding: &Finding) -> String {
    match &finding.message {
        Some(message) => printable(message),
        None => {
            let rules: Vec<String> =
                finding.reasons.iter().map(|rule| format!("{}, {}", rule.policy, rule.rule)).collect();
            names(&rules, "; ")
        }
    }
}

pub fn replay(replay: &Replay) -> String {
    let Replay { version: _, at: _, namespace, policies, tasks, steps, cut, differences, unjudged } = replay;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} of {steps} steps of the last {tasks} Tasks in namespace {} would be decided otherwise with {}",
        differences.len(),
        printable(namespace),
        names(policies, ", ")
    );
    if *cut {
        let _ = writeln!(out, "There are more than can be looked at together; the oldest are left out.");
    }
    if !differences.is_empty() {
        let row = |difference: &countersign_core::simulate::ReplayDifference| {
            vec![
                format!("{:.19}Z", difference.at.to_string()),
                printable(&difference.task),
                printable(&difference.step),
                format!("{:?}", difference.outcome),
                finding(&difference.today),
                finding(&difference.tried),
                reasons(&difference.tried),
            ]
        };
        let names = ["DECIDED", "TASK", "STEP", "BECAME", "TODAY", "TRIED", "WHY"];
        let rows: Vec<Vec<String>> = [head(&names)].into_iter().chain(differences.iter().map(row)).collect();
        let _ = writeln!(out, "\n{}", table(&rows));
    }
    let rows = unjudged.iter().map(|step| vec![printable(&step.task), printable(&step.step), printable(&step.why)]);
    section(&mut out, "Not judged", rows.collect());
    out.trim_end().to_owned()
}

/// As many as stand in one line.
fn names(names: &[String], between: &str) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMES).map(|name| printable(name)).collect();
    if names.len() > NAMES {
        shown.push(format!("and {} more", names.len() - NAMES));
    }
    shown.join(between)
}

fn seconds(seconds: f64) -> String {
    let duration = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::MAX);
    if seconds > 0.0 && seconds < 10.0 && duration.subsec_nanos() > 0 {
        return format!("{seconds:.1}s");
    }
    span(duration)
}

#[cfg(test)]
mod tests;
