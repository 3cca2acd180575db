use super::*;
use crate::binding::difference::{all, between_runs};

fn lines(differences: &[Difference]) -> Vec<String> {
    difference_texts(differences)
}

#[test]
fn differences_name_the_innermost_member_and_both_values() {
    let before = json!({"input": {"to": "x", "amount": 5, "old": true}, "ask": {"required": 1}, "run": 1, "taint": []});
    let now = json!({"input": {"to": "x", "amount": 7, "new": [1]}, "ask": {"required": 2}, "run": 2, "taint": []});
    let of_input = ["input.amount: 5 -> 7", "input.new: none -> [1]", "input.old: true -> none"];
    let everything = [&["ask.required: 1 -> 2"], &of_input[..], &["run: 1 -> 2"]].concat();
    assert_eq!(lines(&all(&before, &now)), everything);
    assert_eq!(lines(&between_runs(&before, &now)), everything[..4]);
    assert_eq!(all(&before, &before), []);
    let none = json!({"ask": null});
    assert_eq!(lines(&all(&none, &json!({"ask": {"required": 2}}))), ["ask: none -> {\"required\":2}"]);
}

#[test]
fn another_run_has_another_payment_and_that_is_no_difference() {
    let payment = |id: &str, amount: &str| json!({"payment": {"id": id, "amount": amount}});
    assert_eq!(lines(&between_runs(&payment("a", "1"), &payment("b", "1"))), [""; 0]);
    assert_eq!(lines(&between_runs(&payment("a", "1"), &payment("b", "2"))), ["payment.amount: \"1\" -> \"2\""]);
}

#[test]
fn a_line_is_cut_and_hides_nothing_and_what_is_much_is_bounded() {
    let many = |n: u32| json!({"input": (0..100).map(|i| (format!("k{i}"), json!(i + n))).collect::<Map<_, _>>()});
    assert_eq!(all(&many(0), &many(1)).len(), 32);
    let long = all(&json!({"input": "a".repeat(1000)}), &json!({"input": "b".repeat(1000)}));
    assert_eq!(long[0].now.as_ref().unwrap().chars().count(), 1002, "whole, for whoever shows it");
    assert_eq!(lines(&long)[0].chars().count(), "input: ".len() + 64 + " -> ".len() + 64);
    let hidden = all(&json!({"input": {"a\u{202e}": "b"}}), &json!({"input": {"a\u{202e}": "c\u{e0041}"}}));
    assert_eq!(lines(&hidden), [r#"input.a\u{202e}: "b" -> "c\u{e0041}""#]);
}
