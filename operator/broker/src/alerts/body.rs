//! What a receiver is told, as <https://www.standardwebhooks.com> has it.

use countersign_core::budget::{Scope, Window};
use countersign_core::money::Money;
use countersign_store::Alert;
use jiff::Timestamp;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    scope: Scope,
    subject: &'a str,
    window: Window,
    starts_at: Timestamp,
    /// Null where the window never ends.
    ends_at: Option<Timestamp>,
    percent: u8,
    limit: Money,
    spent: Money,
    held: Money,
}

/// The same at every try.
pub fn body(alert: &Alert) -> serde_json::Result<Vec<u8>> {
    let Alert { id: _, at, percent, scope, subject, window, starts_at, ends_at, limit, spent, held, attempt: _ } =
        alert;
    serde_json::to_vec(&Body {
        r#type: "budget.alert",
        timestamp: *at,
        data: Data {
            scope: *scope,
            subject,
            window: *window,
            starts_at: *starts_at,
            ends_at: *ends_at,
            percent: *percent,
            limit: *limit,
            spent: *spent,
            held: *held,
        },
    })
}

/// By which a receiver knows what it has seen before: of this row, and of no row of another database.
pub fn id(alert: &Alert) -> String {
    format!("alert_{}_{}", alert.at.as_microsecond(), alert.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn money_is_decimal_strings_and_times_are_rfc_3339() {
        let mut alert = Alert {
            id: 7,
            at: "2026-11-21T10:00:00.25Z".parse().unwrap(),
            percent: 80,
            scope: Scope::Agent,
            subject: "shop/user-agent".to_owned(),
            window: Window::Day,
            starts_at: "2026-11-20T23:00:00Z".parse().unwrap(),
            ends_at: Some("2026-11-21T23:00:00Z".parse().unwrap()),
            limit: Money::from_micros(10_000_000),
            spent: Money::from_micros(7_950_001),
            held: Money::from_micros(50_000),
            attempt: 3,
        };
        let read = |alert: &Alert| serde_json::from_slice::<Value>(&body(alert).unwrap()).unwrap();
        assert_eq!(
            read(&alert),
            json!({"type": "budget.alert", "timestamp": "2026-11-21T10:00:00.25Z", "data": {
                "scope": "Agent", "subject": "shop/user-agent", "window": "Day",
                "startsAt": "2026-11-20T23:00:00Z", "endsAt": "2026-11-21T23:00:00Z",
                "percent": 80, "limit": "10", "spent": "7.950001", "held": "0.05"}})
        );
        assert_eq!(id(&alert), "alert_1795255200250000_7");
        let first = body(&alert).unwrap();
        alert.attempt = 4;
        assert_eq!((body(&alert).unwrap(), id(&alert)), (first, "alert_1795255200250000_7".to_owned()));
        (alert.window, alert.ends_at) = (Window::Total, None);
        assert_eq!(read(&alert)["data"]["endsAt"], Value::Null);
    }
}
