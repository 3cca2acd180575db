//! `webhook_send`: the bytes and the key that a receiver sees.

use serde_json::{Value, json};

use crate::proxy::{Place, Proxy, fixed};
use crate::skill::{Ran, through};

const URL: &str = "https://hooks.example.com/in";

fn send(place: Place, input: &Value) -> (Proxy, Ran) {
    let proxy = Proxy::new(&[("https://hooks.example.com", place)]);
    let ran = through(&proxy, "webhook_send", input);
    (proxy, ran)
}

#[test]
fn a_repeat_has_the_same_key_and_the_same_bytes() {
    let ok = || fixed(202, &[], "");
    let (proxy, ran) = send(ok(), &json!({"url": URL, "event": "balance.low", "payload": {"b": 1.0, "a": "é"}}));
    let [seen] = &proxy.seen()[..] else { panic!("one request") };
    assert_eq!(seen.line, format!("POST {URL}"));
    assert_eq!(seen.body, r#"{"data":{"a":"é","b":1},"type":"balance.low"}"#);
    assert_eq!(seen.header("webhook-id"), seen.header("idempotency-key"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    // sha256sum of {"event":"balance.low","payload":{"a":"é","b":1},"url":"https://hooks.example.com/in"}
    let key = "2734eee80e1b8d724a8e2f6ffad9a757bc54e9e2a8a7125d048abd4ecb9bd142";
    assert_eq!(seen.header("idempotency-key"), Some(key));
    assert_eq!(ran.output(), json!({"status": 202, "idempotencyKey": key}));

    let (_, again) = send(ok(), &json!({"payload": {"a": "é", "b": 1}, "event": "balance.low", "url": URL}));
    assert_eq!(again.output()["idempotencyKey"], key);
    for other in [
        json!({"url": URL, "event": "balance.low", "payload": {"a": "é", "b": 2}}),
        json!({"url": URL, "event": "balance.high", "payload": {"a": "é", "b": 1}}),
        json!({"url": format!("{URL}?x"), "event": "balance.low", "payload": {"a": "é", "b": 1}}),
    ] {
        assert_ne!(send(ok(), &other).1.output()["idempotencyKey"], key, "{other}");
    }
    let own = json!({"url": URL, "event": "e", "payload": null, "idempotencyKey": "order-7"});
    let (proxy, ran) = send(ok(), &own);
    assert_eq!(ran.output()["idempotencyKey"], "order-7");
    assert_eq!(proxy.seen()[0].header("idempotency-key"), Some("order-7"));
}

#[test]
fn only_2xx_is_success() {
    let input = json!({"url": URL, "event": "e", "payload": {}});
    for (status, said) in [(302, "302 Found"), (409, "409 Conflict"), (500, "500 Internal Server Error")] {
        let (proxy, ran) = send(fixed(status, &[("location", "/other")], "why"), &input);
        ran.fails(&format!("POST {URL}: answered {said}: why"));
        assert_eq!(proxy.seen().len(), 1, "neither followed nor tried again");
    }
    assert_eq!(send(fixed(204, &[], ""), &input).1.output()["status"], 204);
}

#[test]
fn wrong_inputs_name_the_field() {
    let table = [
        (json!({"url": URL, "event": "e"}), "input: missing field `payload`"),
        (json!({"url": URL, "payload": 1}), "input: missing field `event`"),
        (json!({"url": URL, "event": 1, "payload": 1}), "input.event: invalid type: integer `1`, expected a string"),
        (
            json!({"url": "hooks", "event": "e", "payload": 1}),
            r#"input.url: "hooks" is not a URL: relative URL without a base"#,
        ),
        (
            json!({"url": URL, "event": "e", "payload": 1, "secret": "s"}),
            "input.secret: unknown field `secret`, expected one of `url`, `event`, `payload`, `idempotencyKey`",
        ),
        (
            json!({"url": URL, "event": "e", "payload": 1, "idempotencyKey": ""}),
            r#"input.idempotencyKey: "" is not a key; write 1 to 255 printable ASCII characters without spaces"#,
        ),
        (
            json!({"url": URL, "event": "e", "payload": 1, "idempotencyKey": "a\r\nb: c"}),
            r#"input.idempotencyKey: "a\r\nb: c" is not a key; write 1 to 255 printable ASCII characters without spaces"#,
        ),
    ];
    let proxy = Proxy::new(&[]);
    for (input, message) in table {
        through(&proxy, "webhook_send", &input).fails(message);
    }
    assert!(proxy.seen().is_empty());
}
