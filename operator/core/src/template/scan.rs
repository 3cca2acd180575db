//! Finds the expressions in a string.

/// A part of a string.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Text, its escapes read.
    Text(String),
    /// What stands between `${` and its `}`.
    Expression(&'t str),
}

/// A `${` whose `}` is missing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unclosed;

/// Splits a string; texts are not empty and are never next to each other.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece<'_>>, Unclosed> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = source;
    while let Some(dollar) = rest.find('$') {
        text.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            text.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let length = expression_length(after).ok_or(Unclosed)?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Expression(&after[..length]));
            rest = &after[length + 1..];
        } else {
            text.push('$');
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// The bytes before the `}` that closes an expression. Braces of maps are counted, those in strings
/// and comments are not.
fn expression_length(source: &str) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            b'"' | b'\'' => {
                at = string_end(bytes, at, is_raw(bytes, at))?;
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|&byte| byte == b'\n')?;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether the quote at `at` starts a raw string: its prefix is made of `r` and `b`, with an `r`.
fn is_raw(bytes: &[u8], at: usize) -> bool {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let prefix = bytes[..at].iter().rev().take_while(|byte| is_name(byte));
    let prefix: Vec<_> = prefix.map(u8::to_ascii_lowercase).collect();
    matches!(prefix.as_slice(), b"r" | b"rb" | b"br")
}

/// The place after the string whose quote is at `start`.
fn string_end(bytes: &[u8], start: usize, raw: bool) -> Option<usize> {
    let quote = bytes[start];
    let triple = bytes[start..].starts_with(&[quote; 3]);
    let closing: &[u8] = if triple { &[quote; 3] } else { &[quote; 1] };
    let mut at = start + closing.len();
    while at < bytes.len() {
        if bytes[at] == b'\\' && !raw {
            at += 2;
        } else if bytes[at..].starts_with(closing) {
            return Some(at + closing.len());
        } else {
            at += 1;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Piece<'_> {
        Piece::Text(text.to_owned())
    }

    #[test]
    fn strings_are_split() {
        use Piece::Expression as E;
        for (source, expected) in [
            ("", vec![]),
            ("plain $ {x} $x", vec![text("plain $ {x} $x")]),
            ("${a}", vec![E("a")]),
            ("a${b}c${d}", vec![text("a"), E("b"), text("c"), E("d")]),
            ("${a}${b}", vec![E("a"), E("b")]),
            ("$${a}", vec![text("${a}")]),
            ("$$${a}", vec![text("$${a}")]),
            ("$$${a}${b}", vec![text("$${a}"), E("b")]),
            ("$ ${a}", vec![text("$ "), E("a")]),
            ("${ {'k': {'n': 1}} }", vec![E(" {'k': {'n': 1}} ")]),
            ("${'}' + \"}\"}", vec![E("'}' + \"}\"")]),
            (r"${'\'}'}", vec![E(r"'\'}'")]),
            (r"${r'\'}", vec![E(r"r'\'")]),
            (r"${br'\' + RB'\'}", vec![E(r"br'\' + RB'\'")]),
            (r"${b'\'}'}", vec![E(r"b'\'}'")]),
            (r"${tr'\'}'}", vec![E(r"tr'\'}'")]),
            ("${'''a'}'''}", vec![E("'''a'}'''")]),
            ("${\"\"\"a\"}\"\"\"}x", vec![E("\"\"\"a\"}\"\"\""), text("x")]),
            ("${a // }\n}", vec![E("a // }\n")]),
            ("${''}", vec![E("''")]),
            ("é${'é}'}é", vec![text("é"), E("'é}'"), text("é")]),
            ("${}", vec![E("")]),
        ] {
            assert_eq!(pieces(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_is_not_closed() {
        for source in ["${", "${a", "x${'}", "${{}", "${a // }", "${'''}'}", r"${'\'}", "${'\\"] {
            assert_eq!(pieces(source), Err(Unclosed), "{source}");
        }
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(source in "[$ {}a'\"/é]{0,24}") {
            let escaped = source.replace("${", "$${");
            // A dollar before an escape would escape the escape's own dollar.
            prop_assume!(!source.contains("$${"));
            let expected = if source.is_empty() { vec![] } else { vec![text(&source)] };
            prop_assert_eq!(pieces(&escaped), Ok(expected));
        }

        #[test]
        fn no_string_panics(source in "[$ {}a'\"r\\\\/\né]{0,40}") {
            let _ = pieces(&source);
        }
    }
}
