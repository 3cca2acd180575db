//! Canonical JSON: one text for one value.

use super::strict::{self, StrictError};
use serde_json::Value;

/// The canonical bytes of a value, RFC 8785 (JCS): no white space, keys in the order of their UTF-16
/// code units, numbers as ECMAScript writes them.
///
/// # Errors
/// What [`strict::check`] refuses.
pub fn to_vec(value: &Value) -> Result<Vec<u8>, StrictError> {
    to_string(value).map(String::into_bytes)
}

/// As [`to_vec`], as text.
///
/// # Errors
/// What [`strict::check`] refuses.
pub fn to_string(value: &Value) -> Result<String, StrictError> {
    strict::check(value)?;
    Ok(render(value))
}

/// Writes a value that passed the strict check, for which the canonicalizer has no error: it fails
/// only on numbers that are not finite and on keys that are not strings.
fn render(value: &Value) -> String {
    serde_json_canonicalizer::to_string(value)
        .unwrap_or_else(|error| unreachable!("a checked JSON value has a canonical form: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8785, section 3.2.2 to 3.2.4: the sample object and its canonical form. It holds 1e30,
    /// which the strict check refuses, so that it goes to the renderer alone.
    #[test]
    fn the_sample_of_the_rfc() {
        let value: Value = serde_json::from_str(
            r#"{
                "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
                "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                "literals": [null, true, false]
            }"#,
        )
        .unwrap();
        assert_eq!(
            render(&value),
            "{\"literals\":[null,true,false],\
             \"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\
             \"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    /// RFC 8785, section 3.2.3: keys in the order of UTF-16 code units, in which an emoji
    /// (a surrogate pair) comes before U+FB33.
    #[test]
    fn the_sorting_of_the_rfc() {
        let value: Value = serde_json::from_str(
            r#"{
                "\u20ac": "Euro Sign",
                "\r": "Carriage Return",
                "\ufb33": "Hebrew Letter Dalet With Dagesh",
                "1": "One",
                "\ud83d\ude00": "Emoji: Grinning Face",
                "\u0080": "Control",
                "\u00f6": "Latin Small Letter O With Diaeresis"
            }"#,
        )
        .unwrap();
        assert_eq!(
            to_string(&value).unwrap(),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\
             \"😀\":\"Emoji: Grinning Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
    }

    /// RFC 8785, appendix B: IEEE 754 bits and their text.
    #[test]
    fn the_numbers_of_the_rfc() {
        for (bits, text) in [
            (0x0000000000000000_u64, "0"),
            (0x8000000000000000, "0"),
            (0x0000000000000001, "5e-324"),
            (0x8000000000000001, "-5e-324"),
            (0x7fefffffffffffff, "1.7976931348623157e+308"),
            (0xffefffffffffffff, "-1.7976931348623157e+308"),
            (0x4340000000000000, "9007199254740992"),
            (0xc340000000000000, "-9007199254740992"),
            (0x4430000000000000, "295147905179352830000"),
            (0x44b52d02c7e14af5, "9.999999999999997e+22"),
            (0x44b52d02c7e14af6, "1e+23"),
            (0x44b52d02c7e14af7, "1.0000000000000001e+23"),
            (0x444b1ae4d6e2ef4e, "999999999999999700000"),
            (0x444b1ae4d6e2ef4f, "999999999999999900000"),
            (0x444b1ae4d6e2ef50, "1e+21"),
            (0x3eb0c6f7a0b5ed8c, "9.999999999999997e-7"),
            (0x3eb0c6f7a0b5ed8d, "0.000001"),
            (0x41b3de4355555553, "333333333.3333332"),
            (0x41b3de4355555554, "333333333.33333325"),
            (0x41b3de4355555555, "333333333.3333333"),
            (0x41b3de4355555556, "333333333.3333334"),
            (0x41b3de4355555557, "333333333.33333343"),
            (0xbecbf647612f3696, "-0.0000033333333333333333"),
            (0x43143ff3c1cb0959, "1424953923781206.2"),
        ] {
            assert_eq!(render(&Value::from(f64::from_bits(bits))), text, "{bits:x}");
        }
    }

    #[test]
    fn what_would_be_rounded_is_refused() {
        assert!(to_string(&Value::from(u64::MAX)).is_err());
        assert!(to_string(&Value::from(1e30)).is_err());
    }

    proptest! {
        #[test]
        fn canonical_text_is_a_fixpoint_and_tells_the_same(value in crate::json::tests::any_json()) {
            let text = to_string(&value).unwrap();
            let again = crate::json::strict::parse(&text).unwrap();
            prop_assert_eq!(&to_string(&again).unwrap(), &text);
        }
    }
}
