//! Payments: what the attempt's launch says is handed over, once, and nothing that a sandbox sends has a say in it.

use countersign_core::money::Money;
use countersign_crds::PaymentState;
use serde_json::{Value, json};

use crate::world::World;

const ASK: &str = "https://payment.countersign.internal/";

fn contract() -> Value {
    json!({
        "effect": "Irreversible", "idempotent": true, "builtin": {"name": "pay"}, "cost": {"ceiling": "0.5", "perAttempt": "0.1"},
        "payment": {"network": "main", "assets": [{"name": "ETH", "decimals": 18, "most": "1", "price": "0.3"}]},
    })
}

fn payment(price: &str) -> Value {
    json!({
        "id": format!("0x{}", "07".repeat(32)), "network": "main", "mode": "Live", "asset": "ETH", "decimals": 18,
        "to": "0x70997970c51812dc3a010c7d01b50e0d17dc79c8", "amount": "1000000000000000000", "price": price,
    })
}

async fn paying(price: &str) -> World {
    let world = World::new(contract()).await;
    world.admit_launch("payer", json!({"contract": contract(), "payment": payment(price)}));
    world
}

#[tokio::test]
async fn what_was_signed_for_is_paid_whatever_the_sandbox_says() {
    let world = paying("0.3").await;
    let client = world.client_of("payer").await;
    for body in ["", "{}", r#"{"to":"0x00000000000000000000000000000000000000aa","amount":"9"}"#] {
        let answer = client.post(ASK, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!(
            (told["state"].as_str(), told["transaction"].as_str(), told["block"].as_u64()),
            (Some("Confirmed"), Some("0x07"), Some(7))
        );
        assert_eq!((told["payment"].clone(), told["mode"].clone()), (payment("0.3")["id"].clone(), json!("Live")));
    }
    let paid = world.record.with(|state| state.paid.clone());
    assert_eq!(json!(paid), json!([payment("0.3")]), "once, as the launch has it");
    assert_eq!(world.outcomes(), ["paid"]);
    assert_eq!(world.record.with(|state| state.spent), Money::from_micros(300_000));
}

#[tokio::test]
async fn what_did_not_move_costs_nothing() {
    for state in [PaymentState::Refused, PaymentState::Dead] {
        let world = paying("0.3").await;
        world.record.with(|record| record.paying = Some(state));
        let answer = world.client_of("payer").await.post(ASK, "{}").await;
        assert_eq!(
            (answer.json()["state"].clone(), answer.json()["message"].clone()),
            (json!(state), json!("told why"))
        );
        assert_eq!(world.outcomes(), ["not-paid"]);
        assert_eq!(world.record.with(|record| record.spent), Money::ZERO);
    }
}

#[tokio::test]
async fn who_may_not_pay_is_told_so_and_nothing_is_handed_over() {
    let world = paying("0.45").await;
    let (payer, other) = (world.client_of("payer").await, world.client().await);
    for (answer, status, reason, words) in [
        (other.post(ASK, "{}").await, 403, "egress-denied", "its Skill has no payment"),
        (payer.get(ASK).await, 400, "bad-request", "POST"),
        (payer.post(ASK, "{}").await, 402, "cost-ceiling", "may"),
        // Another spelling is another host, to which no egress leads.
        (payer.post("https://payment.countersign.internal:444/", "{}").await, 403, "egress-denied", "egress"),
        (payer.post("http://payment.countersign.internal/", "{}").await, 403, "egress-denied", "egress"),
        (payer.post("https://payment.countersign.internal/?to=me", "{}").await, 403, "egress-denied", "egress"),
    ] {
        assert_eq!((answer.status, answer.refused().as_str()), (status, reason), "{}", answer.text());
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    assert!(world.record.with(|state| state.paid.is_empty() && state.calls.is_empty()));
    world.record.with(|state| state.away = true);
    assert_eq!(payer.post(ASK, "{}").await.status, 503);
}
