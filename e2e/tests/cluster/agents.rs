//! Agents are who acts: an account that is bound to one cannot leave it, and nobody else acts as it unasked.

use countersign_e2e::scene::{refused, require};
use countersign_e2e::{Namespace, SOON, User, kubectl, kubectl_with, wait_until};
use serde_json::{Value, json};

fn agent(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Agent", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

fn task(name: &str, more: &Value) -> String {
    let step = json!({"name": "only", "skill": "check-balance", "input": {"address": "a", "transactions": []}});
    let mut spec = json!({"plan": {"steps": [step]}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "Task", "metadata": {"name": name}, "spec": spec})
        .to_string()
}

#[test]
fn an_account_that_is_bound_acts_as_its_agent_in_every_namespace() {
    let (home, ns) = (Namespace::new("agents-home"), Namespace::new("agents"));
    let robot = User::new("robot", &[]);
    let create = |user: &User, manifest: String| user.kubectl_with(&["-n", &ns.name, "create", "-f", "-"], &manifest);
    for user in ["robot", "dave", "olga"] {
        ns.grant("countersign-operator", user);
    }
    for user in ["alice", "olga"] {
        ns.grant("countersign-approver", user);
    }
    let spec = json!({"allowedSkills": ["check-balance"], "subjects": [{"kind": "User", "name": "robot"}],
        "owners": [{"kind": "User", "name": "olga"}]});
    home.apply(&agent("rob", &spec));

    // The webhook sees the Agent by a watch.
    let mut tries = 0;
    wait_until("the account is bound", SOON, || {
        tries += 1;
        create(&robot, task(&format!("bound-{tries}"), &json!({"suspend": true}))).unwrap();
        ns.get(&format!("task/bound-{tries}"))["spec"]["agentRef"] == json!({"name": "rob", "namespace": home.name})
    });
    refused(create(&robot, task("as-another", &json!({"agentRef": {"name": "other"}}))), "acts as the Agent");
    // Anybody else needs the right to name it, and without one nothing is urgent.
    let named = json!({"agentRef": {"name": "rob", "namespace": home.name}});
    let dave = User::new("dave", &[]);
    refused(create(&dave, task("borrowed", &named)), "it takes the verb use on agents/rob");
    refused(create(&dave, task("urgent", &json!({"priority": "High"}))), "spec.priority: without an Agent");
    home.grant("countersign-agent-user", "dave");
    create(&dave, task("borrowed", &named)).unwrap();

    // Whoever owns the Agent does not sign for what it asks.
    require(&ns, &json!({"count": 1}));
    wait_until("the Policy is in force", SOON, || {
        tries += 1;
        create(&robot, task(&format!("asks-{tries}"), &json!({}))).unwrap();
        let name = format!("asks-{tries}");
        wait_until("it was judged", SOON, || !["Pending", "Planning"].contains(&ns.phase(&name).0.as_str()));
        ns.phase(&name).0 == "WaitingApproval"
    });
    let approval = ns.approval("Pending");
    refused(User::new("olga", &[]).sign(&ns, &approval), "olga owns the Agent that asked");
    User::new("alice", &[]).sign(&ns, &approval).unwrap();
    ns.wait_for(&format!("asks-{tries}"), "Completed");

    // Two Agents that claim one account are named, and nothing of it is admitted.
    home.apply(&agent("rob-too", &spec));
    wait_until("two claim it", SOON, || {
        create(&robot, task("torn", &json!({"suspend": true}))).err().is_some_and(|why| {
            let agents = format!("({0}/rob, {0}/rob-too)", home.name);
            why.contains("is a subject of several Agents") && why.contains(&agents)
        })
    });
}

#[test]
fn only_the_platform_team_says_whose_tasks_are_an_agents() {
    let ns = Namespace::new("agents-bound");
    let file = ["-n", ns.name.as_str(), "apply", "-f", "-"];
    let admin = User::new("team-admin", &[]);
    ns.grant("countersign-admin", "team-admin");
    let with = |more: Value| {
        let mut spec = json!({"allowedSkills": []});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        agent("a", &spec)
    };
    let bound = json!({"subjects": [{"kind": "User", "name": "drone"}], "owners": [{"kind": "User", "name": "olga"}]});
    let words = "the verb bind on agents";
    refused(admin.kubectl_with(&file, &with(bound.clone())), words);
    admin.kubectl_with(&file, &with(json!({}))).unwrap();
    refused(admin.kubectl_with(&file, &with(bound.clone())), words);
    ns.apply(&with(bound.clone()));
    // What else it says is the namespace's own; that it is bound, by whom it is owned and that it is there are not.
    let mut paused = bound.clone();
    paused["suspend"] = json!(true);
    admin.kubectl_with(&file, &with(paused)).unwrap();
    let mut disowned = bound.clone();
    disowned["owners"] = json!([]);
    for unbound in [json!({}), disowned] {
        refused(admin.kubectl_with(&file, &with(unbound)), words);
    }
    refused(admin.kubectl(&["-n", &ns.name, "delete", "agent", "a"]), words);
    let everybody = json!({"subjects": [{"kind": "Group", "name": "system:authenticated"}]});
    let complaint = ns.apply_refused(&with(everybody));
    assert!(complaint.contains("spec.subjects[0]") && complaint.contains("a group of your own"), "{complaint}");
    // With its namespace it goes.
    kubectl(&["delete", "namespace", &ns.name, "--timeout=60s"]);
    assert!(!kubectl_with(&["get", "namespace", &ns.name], "").status.success());
}
