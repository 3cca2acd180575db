//! The one way out to the terminal: nothing that came from outside can hide there, or move what stands beside it.

use std::io::{Write, stderr, stdout};

use countersign_core::escape::{json_text, printable};

/// Prints lines to standard output. Values that could hold line breaks of their own are made printable before.
pub fn say(text: &str) {
    print(stdout().lock(), &lines(text));
}

/// Prints JSON to standard output: what hides is written in JSON's own escapes, so the value is the same.
pub fn say_json(text: &str) {
    print(stdout().lock(), &json_text(text));
}

/// Prints a note or an error to standard error.
pub fn note(text: &str) {
    print(stderr().lock(), &lines(text));
}

fn lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn print(mut to: impl Write, text: &str) {
    // Whoever reads may have gone, as `head` does; then there is nobody to tell.
    let _ = writeln!(to, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_lines_and_hide_nothing() {
        assert_eq!(lines("a\nb\u{202e}c\u{1b}[2J\r\n\u{e0041}"), "a\nb\\u{202e}c\\u{1b}[2J\n\\u{e0041}");
    }
}
