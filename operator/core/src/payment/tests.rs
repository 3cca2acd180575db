use super::*;
use proptest::prelude::*;
use serde_json::json;

const TO: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const TOKEN: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";

fn skill(builtin: &str, change: impl FnOnce(&mut Value)) -> SkillSpec {
    let mut spec = json!({
        "effect": "Irreversible", "idempotent": true, "builtin": {"name": builtin},
        "cost": {"ceiling": "10"},
        "payment": {"network": "main", "assets": [
            {"name": "ETH", "decimals": 18, "most": "2.5", "price": "0"},
            {"name": "USDC", "token": TOKEN, "decimals": 6, "most": "100", "price": "0.1"},
        ]},
    });
    change(&mut spec);
    serde_json::from_value(spec).unwrap()
}

fn of(contract: &SkillSpec, input: Value) -> Result<Payment, String> {
    let Value::Object(input) = input else { panic!("the input is an object") };
    payment("run", "step", contract, &input).map(Option::unwrap)
}

fn pay(input: Value) -> Result<Payment, String> {
    of(&skill("pay", |_| {}), input)
}

#[test]
fn a_payment_is_what_the_input_says_exactly() {
    for (builtin, input, raw, token, shown, price) in [
        ("pay", json!({"to": TO, "amount": "1.5", "asset": "ETH"}), "1500000000000000000", false, "1.5 ETH", 0),
        ("pay", json!({"to": TO, "amount": "2.500", "asset": "ETH"}), "2500000000000000000", false, "2.5 ETH", 0),
        (
            "pay",
            json!({"to": TO, "amount": "0.000000000000000001", "asset": "ETH"}),
            "1",
            false,
            "0.000000000000000001 ETH",
            0,
        ),
        ("pay", json!({"to": TO, "amount": "7", "asset": "USDC"}), "7000000", true, "7 USDC", 700_000),
        // Rounded up: nothing that counts is free.
        ("pay", json!({"to": TO, "amount": "0.000001", "asset": "USDC"}), "1", true, "0.000001 USDC", 1),
        ("onchain_action", json!({"to": TO, "amount": 7}), "7", false, "0.000000000000000007 ETH", 0),
        (
            "onchain_action",
            json!({"to": TO, "amount": "1000000000000000000"}),
            "1000000000000000000",
            false,
            "1 ETH",
            0,
        ),
        ("onchain_action", json!({"to": TO, "amount": 2_000_000, "token": TOKEN}), "2000000", true, "2 USDC", 200_000),
    ] {
        let payment = of(&skill(builtin, |_| {}), input.clone()).unwrap();
        assert_eq!(payment.amount.to_string(), raw, "{input}");
        assert_eq!(payment.token.is_some(), token, "{input}");
        assert_eq!(payment.price.micros(), price, "{input}");
        let of_token = payment.token.map(|token| format!(" (token {}, 6 decimals)", token.to_checksum(None)));
        let shown = shown.to_owned() + of_token.as_deref().unwrap_or_default();
        assert_eq!(payment.to_string(), format!("{shown} to {TO} on main"));
        // As it is recorded and read again.
        assert_eq!(serde_json::from_value::<Payment>(json!(payment)).unwrap(), payment);
    }
}

#[test]
fn whoever_signs_reads_where_it_is_paid_through_what_and_out_of_which_account() {
    let lower = TO.to_lowercase();
    let on = PaymentNetwork { chain_id: 8453, router: TOKEN.parse().unwrap(), account: lower.parse().unwrap() };
    let paid = pay(json!({"to": lower, "amount": "7", "asset": "USDC"})).unwrap();
    let token: Address = TOKEN.parse().unwrap();
    let token = token.to_checksum(None);
    assert_eq!(
        Payment { on: Some(on), ..paid }.to_string(),
        format!("7 USDC (token {token}, 6 decimals) to {TO} on main (chain 8453, router {token}, out of {TO})")
    );
}

#[test]
fn what_cannot_be_paid_is_an_error_that_names_the_field() {
    let onchain = |input| of(&skill("onchain_action", |_| {}), input);
    for (result, field, fix) in [
        (pay(json!({"to": TO, "amount": "1"})), "input.asset", "ETH, USDC"),
        (pay(json!({"to": TO, "amount": "1", "asset": "BTC"})), "input.asset", "ETH, USDC"),
        (pay(json!({"to": TO, "asset": "ETH"})), "input.amount", "decimal string"),
        (pay(json!({"to": TO, "amount": 1.5, "asset": "ETH"})), "input.amount", "decimal string"),
        (pay(json!({"to": TO, "amount": "1.0000001", "asset": "USDC"})), "input.amount", "at most 6 places"),
        (pay(json!({"to": TO, "amount": "-1", "asset": "ETH"})), "input.amount", "decimal string"),
        (pay(json!({"to": TO, "amount": "1e3", "asset": "ETH"})), "input.amount", "decimal string"),
        (pay(json!({"to": TO, "amount": ".5", "asset": "ETH"})), "input.amount", "decimal string"),
        (pay(json!({"to": TO, "amount": "0.0", "asset": "ETH"})), "input.amount", "is 0"),
        (
            pay(json!({"to": TO, "amount": "2.500000000000000001", "asset": "ETH"})),
            "input.amount",
            "more than the Skill's most, 2.5",
        ),
        (pay(json!({"to": TO, "amount": "100.000001", "asset": "USDC"})), "input.amount", "more than"),
        (pay(json!({"amount": "1", "asset": "ETH"})), "input.to", "40 hexadecimal"),
        (pay(json!({"to": "0x1234", "amount": "1", "asset": "ETH"})), "input.to", "40 hexadecimal"),
        (pay(json!({"to": TO.replace("C51", "c51"), "amount": "1", "asset": "ETH"})), "input.to", "EIP-55"),
        (
            pay(json!({"to": format!("0x{}", "0".repeat(40)), "amount": "1", "asset": "ETH"})),
            "input.to",
            "zero address",
        ),
        (onchain(json!({"to": TO, "amount": "1.5"})), "input.amount", "whole number"),
        (onchain(json!({"to": TO, "amount": 1.5})), "input.amount", "whole number"),
        (onchain(json!({"to": TO, "amount": -1})), "input.amount", "whole number"),
        (onchain(json!({"to": TO, "amount": 1, "token": TO})), "input.token", "none of the Skill's assets"),
        (onchain(json!({"to": TO, "amount": 1, "token": 7})), "input.token", "contract"),
        (
            of(
                &skill("onchain_action", |s| {
                    s["payment"]["assets"].as_array_mut().unwrap().remove(0);
                }),
                json!({"to": TO, "amount": 1}),
            ),
            "input.token",
            "own coin",
        ),
        (
            of(
                &skill("pay", |s| s["payment"]["recipients"] = json!([TOKEN])),
                json!({"to": TO, "amount": "1", "asset": "ETH"}),
            ),
            "input.to",
            "recipients",
        ),
        (
            of(
                &skill("pay", |s| s["cost"] = json!({"ceiling": "5", "perAttempt": "4.5"})),
                json!({"to": TO, "amount": "7", "asset": "USDC"}),
            ),
            "input.amount",
            "ceiling of 5",
        ),
        (
            of(
                &skill("pay", |s| {
                    s.as_object_mut().unwrap().remove("cost");
                }),
                json!({"to": TO, "amount": "7", "asset": "USDC"}),
            ),
            "it counts 0.7",
            "cost.ceiling",
        ),
    ] {
        let error = result.unwrap_err();
        assert!(error.starts_with(field) && error.contains(fix), "{error}");
    }
}

#[test]
fn whoever_is_listed_may_be_paid_however_it_is_written() {
    let contract = skill("pay", |s| s["payment"]["recipients"] = json!([TO.to_lowercase().replace("0X", "0x")]));
    assert!(of(&contract, json!({"to": TO, "amount": "1", "asset": "ETH"})).is_ok());
}

#[test]
fn another_run_step_or_key_is_another_payment_and_another_attempt_is_the_same() {
    let ids = [("a", "b", ""), ("ab", "", ""), ("a", "b", "c"), ("a", "bc", ""), ("b", "a", "")];
    let ids: std::collections::BTreeSet<_> = ids.into_iter().map(|(a, b, c)| PaymentId::of(a, b, c)).collect();
    assert_eq!(ids.len(), 5);
    // By another implementation of Keccak-256: `cast keccak '["run","step",""]'`.
    let known = keccak256(br#"["run","step",""]"#);
    assert_eq!(PaymentId::of("run", "step", "").0, known);
    let keyed = pay(json!({"to": TO, "amount": "1", "asset": "ETH", "key": "invoice-7"})).unwrap();
    assert_eq!(keyed.id, PaymentId::of("run", "step", "invoice-7"));
}

#[test]
fn a_mock_says_so() {
    let contract = skill("pay", |s| s["payment"]["mode"] = json!("Mock"));
    let payment = of(&contract, json!({"to": TO, "amount": "1", "asset": "ETH"})).unwrap();
    assert!(payment.to_string().ends_with("on main (mock: nothing moves)"));
    assert_eq!(pay(json!({"to": TO, "amount": "1", "asset": "ETH"})).unwrap().mode, PaymentMode::Live);
}

#[test]
fn a_contract_is_checked_beyond_its_schema() {
    let contract = skill("pay", |s| {
        s["payment"]["recipients"] = json!([TO, TO.replace("C51", "c51")]);
        s["payment"]["assets"] = json!([
            {"name": "A", "decimals": 2, "most": "1.001", "price": "1"},
            {"name": "B", "decimals": 2, "most": "0", "price": "1", "token": TO.replace("C51", "c51")},
            {"name": "C", "decimals": 2, "most": "1", "price": "1.0000001"},
        ]);
    });
    let problems = check_payment(contract.payment.as_ref().unwrap(), "spec.payment");
    let fields: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for (problem, field) in fields.iter().zip([
        "spec.payment.assets[0].most",
        "spec.payment.assets[1].token",
        "spec.payment.assets[1].most",
        "spec.payment.assets[2].price",
        "spec.payment.recipients[1]",
    ]) {
        assert!(problem.starts_with(field), "{problem}");
    }
    assert_eq!(fields.len(), 5);
}

proptest! {
    #[test]
    fn whole_units_and_the_smallest_are_the_same_amount(raw in any::<u128>(), decimals in 0u8..=36) {
        let raw = U256::from(raw);
        prop_assert_eq!(whole(&units(Amount(raw), decimals), decimals), Some(raw));
    }
}
