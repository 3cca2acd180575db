//! Text as people see it: each character that they would not see, or that moves others, is spelt out as `\u{HEX}`.

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde_json::Value;

/// Any text, for a place where it is held against what it stands for: two texts that differ differ here too, and
/// [`unescaped`] reads it back. A backslash that would begin an escape is spelt out as well; letters of every script stay.
pub fn escaped(text: &str) -> String {
    units(text, visible).collect()
}

/// The same of every text in a value, names of members too.
pub fn escaped_json(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(&text)),
        Value::Array(items) => items.into_iter().map(escaped_json).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (escaped(&name), escaped_json(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// JSON text with what hides in JSON's own escapes: the value is the same. The line breaks between its parts stay.
pub fn json_text(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if visible(c) || c == '\n' {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// The beginning of a text as [`printable`] writes it, in at most so many characters, with a mark where something was left
/// out; no escape is cut.
pub fn excerpt(text: &str, chars: usize) -> String {
    let whole = printable(text);
    if whole.chars().count() <= chars {
        return whole;
    }
    let mut kept: String = whole.chars().take(chars.saturating_sub(1)).collect();
    let cut = kept.rfind('\\').filter(|at| {
        let tail = &kept[*at..];
        let begun = "\\u{".starts_with(tail) || tail.starts_with("\\u{");
        begun && !tail.contains('}')
    });
    kept.truncate(cut.unwrap_or(kept.len()));
    kept + "…"
}

/// Text for a terminal that may be escaped already: what is leaves this as it came.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if visible(c) { Unit::Plain(c) } else { Unit::Spelt(c) }).collect()
}

/// A user's name, as [`escaped`] writes it but for everything beyond ASCII: whoever reads `\u{430}lice` sees that it is not
/// `alice`.
pub fn shown(name: &str) -> String {
    units(name, |c| c.is_ascii_graphic() || c == ' ').collect()
}

/// Whether a name has characters that people would not see, or that move others.
pub fn hides(name: &str) -> bool {
    !name.chars().all(visible)
}

/// The text that [`escaped`] or [`shown`] wrote as this.
pub fn unescaped(text: &str) -> String {
    let mut rest = text;
    let mut out = String::new();
    while let Some(at) = rest.find("\\u{") {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let spelt = escape[3..].split_once('}').and_then(|(hex, after)| {
            let c = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32)?;
            Some((c, after))
        });
        match spelt {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('\\');
                rest = &escape[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Whether a character shows itself, and nothing but itself.
fn visible(c: char) -> bool {
    if CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c) || BLANK.contains(&c) {
        return false;
    }
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control
        | GeneralCategory::Format
        | GeneralCategory::Surrogate
        | GeneralCategory::PrivateUse
        | GeneralCategory::Unassigned
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => false,
        GeneralCategory::SpaceSeparator => c == ' ',
        GeneralCategory::UppercaseLetter
        | GeneralCategory::LowercaseLetter
        | GeneralCategory::TitlecaseLetter
        | GeneralCategory::ModifierLetter
        | GeneralCategory::OtherLetter
        | GeneralCategory::NonspacingMark
        | GeneralCategory::SpacingMark
        | GeneralCategory::EnclosingMark
        | GeneralCategory::DecimalNumber
        | GeneralCategory::LetterNumber
        | GeneralCategory::OtherNumber
        | GeneralCategory::DashPunctuation
        | GeneralCategory::OpenPunctuation
        | GeneralCategory::ClosePunctuation
        | GeneralCategory::ConnectorPunctuation
        | GeneralCategory::InitialPunctuation
        | GeneralCategory::FinalPunctuation
        | GeneralCategory::OtherPunctuation
        | GeneralCategory::MathSymbol
        | GeneralCategory::CurrencySymbol
        | GeneralCategory::ModifierSymbol
        | GeneralCategory::OtherSymbol => true,
    }
}

/// Symbols without ink: the blank pattern of Braille, the null note head, and what stands for an object that is not there.
const BLANK: [char; 3] = ['\u{2800}', '\u{1d159}', '\u{fffc}'];

/// One character of a text, as it is written.
#[derive(Clone, Copy)]
enum Unit {
    Plain(char),
    Spelt(char),
}

impl FromIterator<Unit> for String {
    fn from_iter<T: IntoIterator<Item = Unit>>(units: T) -> String {
        units.into_iter().fold(String::new(), |mut out, unit| {
            match unit {
                Unit::Plain(c) => out.push(c),
                Unit::Spelt(c) => out.extend(c.escape_unicode()),
            }
            out
        })
    }
}

fn units(text: &str, stays: impl Fn(char) -> bool) -> impl Iterator<Item = Unit> {
    text.char_indices().map(move |(at, c)| {
        let begins_an_escape = c == '\\' && text[at..].starts_with("\\u{");
        if stays(c) && !begins_an_escape { Unit::Plain(c) } else { Unit::Spelt(c) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_general_category::{GeneralCategory as Other, get_general_category};

    /// `Default_Ignorable_Code_Point` of DerivedCoreProperties.txt, and with it what hides within words.
    const IGNORABLE: [(u32, u32); 17] = [
        (0xad, 0xad),
        (0x34f, 0x34f),
        (0x61c, 0x61c),
        (0x115f, 0x1160),
        (0x17b4, 0x17b5),
        (0x180b, 0x180f),
        (0x200b, 0x200f),
        (0x202a, 0x202e),
        (0x2060, 0x206f),
        (0x3164, 0x3164),
        (0xfe00, 0xfe0f),
        (0xfeff, 0xfeff),
        (0xffa0, 0xffa0),
        (0xfff0, 0xfff8),
        (0x1bca0, 0x1bca3),
        (0x1d173, 0x1d17a),
        (0xe0000, 0xe0fff),
    ];

    fn every_character() -> impl Iterator<Item = char> {
        (0..=0x10_ffff).filter_map(char::from_u32)
    }

    #[test]
    fn of_all_characters_those_that_show_themselves_stay_and_no_others() {
        for c in every_character() {
            let ignorable = IGNORABLE.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)));
            #[expect(clippy::wildcard_enum_match_arm, reason = "the other categories are of what can be seen")]
            let hides = match get_general_category(c) {
                // The two tables are of different versions of Unicode, and the newer one knows more letters.
                Other::Unassigned if !ignorable => !visible(c),
                Other::Control | Other::Format | Other::PrivateUse | Other::Unassigned => true,
                Other::LineSeparator | Other::ParagraphSeparator => true,
                Other::SpaceSeparator => c != ' ',
                _ => ignorable || BLANK.contains(&c),
            };
            assert_eq!(visible(c), !hides, "U+{:04X}", u32::from(c));
            let alone = escaped(&c.to_string());
            assert_eq!(alone.chars().count() == 1, visible(c), "U+{:04X}: {alone}", u32::from(c));
            assert_eq!(super::hides(&format!("a{c}b")), !visible(c), "U+{:04X}", u32::from(c));
            assert!(alone.chars().all(visible), "U+{:04X}", u32::from(c));
            assert_eq!(unescaped(&alone), c.to_string());
            assert_eq!(printable(&alone), alone, "what is escaped stays");
            assert!(shown(&c.to_string()).is_ascii(), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn what_hides_and_what_would_pass_for_an_escape_is_spelt_out() {
        for (text, expected) in [
            ("größer, дa, 请, كتاب", "größer, дa, 请, كتاب"),
            ("a\u{1b}[2J\nb\u{202e}c\u{200b}", "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{200b}"),
            ("\0\u{7f}\u{85}", "\\u{0}\\u{7f}\\u{85}"),
            ("pay\u{e0041}\u{e0042}", "pay\\u{e0041}\\u{e0042}"),
            ("so\u{ad}ft \u{3164}\u{ffa0}\u{115f}", "so\\u{ad}ft \\u{3164}\\u{ffa0}\\u{115f}"),
            ("☺\u{fe0f}\u{e0100}", "☺\\u{fe0f}\\u{e0100}"),
            ("\u{378}\u{e000}\u{ffff}\u{10ffff}", "\\u{378}\\u{e000}\\u{ffff}\\u{10ffff}"),
            ("a\u{a0}b\u{2003}c\u{2800}", "a\\u{a0}b\\u{2003}c\\u{2800}"),
            (r"C:\users \n \u \{", r"C:\users \n \u \{"),
            (r"\u{202e}", r"\u{5c}u{202e}"),
            ("\\\u{202e}", r"\\u{202e}"),
        ] {
            assert_eq!(escaped(text), expected);
            assert_eq!(unescaped(expected), text);
        }
    }

    #[test]
    fn names_that_could_pass_for_others_are_spelt_out() {
        for (name, expected) in [
            ("alice@example.com", "alice@example.com"),
            ("аlice", "\\u{430}lice"),
            ("bob\u{202e}ecila", "bob\\u{202e}ecila"),
            ("a\nb", "a\\u{a}b"),
            (r"\u{430}lice", r"\u{5c}u{430}lice"),
        ] {
            assert_eq!(shown(name), expected);
        }
    }

    #[test]
    fn json_means_the_same_and_hides_nothing() {
        let value = serde_json::json!({"a\u{202e}": ["\u{e0041}\u{0}", {"n": 1.5}], "b": "\\u{202e}\"é"});
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = json_text(&text);
            assert!(shown.chars().all(|c| visible(c) || c == '\n'), "{shown}");
            assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn what_is_long_is_cut_between_escapes() {
        for (text, chars, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("ab\u{202e}", 10, "ab\\u{202e}"),
            ("ab\u{202e}d", 10, "ab…"),
            ("\u{202e}\u{202e}", 9, "\\u{202e}…"),
            (r"a\b\c", 4, r"a\b…"),
            ("", 0, ""),
        ] {
            assert_eq!(excerpt(text, chars), expected);
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read_back(text in any::<String>(), tricky in r"[\\u{}0-9a-f\u{202e}]{0,20}") {
            for text in [text, tricky] {
                prop_assert_eq!(&unescaped(&escaped(&text)), &text);
                prop_assert_eq!(&unescaped(&shown(&text)), &text);
                prop_assert!(excerpt(&text, 12).chars().count() <= 12);
            }
        }
    }
}
