//! How many tokens an answer says that it took, as JSON or as a stream of server-sent events, while it passes.

use serde_json::Value;

/// Tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub read: u64,
    pub written: u64,
}

/// Of a JSON answer, or of one line of a stream; what is longer is not understood, and its price not known.
const MOST: usize = 4 * 1024 * 1024;

/// Reads along.
#[derive(Debug)]
pub struct Meter {
    form: Form,
    held: Vec<u8>,
    overflown: bool,
    read: Option<u64>,
    written: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Events,
    Other,
}

impl Meter {
    pub fn new(content_type: Option<&str>) -> Meter {
        let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let form = match essence.to_ascii_lowercase().as_str() {
            "application/json" => Form::Json,
            "text/event-stream" => Form::Events,
            _ => Form::Other,
        };
        Meter { form, held: Vec::new(), overflown: false, read: None, written: None }
    }

    pub fn push(&mut self, chunk: &[u8]) {
        match self.form {
            Form::Json => self.hold(chunk),
            Form::Events => {
                for part in chunk.split_inclusive(|byte| *byte == b'\n') {
                    self.hold(part);
                    if part.ends_with(b"\n") {
                        self.line();
                    }
                }
            }
            Form::Other => {}
        }
    }

    /// Once the answer is there as a whole.
    pub fn finish(mut self) -> Option<Usage> {
        match self.form {
            Form::Json if !self.overflown => {
                let whole = std::mem::take(&mut self.held);
                self.value(&whole);
            }
            Form::Events => self.line(),
            Form::Json | Form::Other => {}
        }
        Some(Usage { read: self.read?, written: self.written? })
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.held.len() + bytes.len() > MOST {
            self.overflown = true;
            self.held.clear();
        }
        if !self.overflown {
            self.held.extend_from_slice(bytes);
        }
    }

    fn line(&mut self) {
        let line = std::mem::take(&mut self.held);
        if !std::mem::take(&mut self.overflown)
            && let Some(data) = line.strip_prefix(b"data:")
        {
            self.value(data);
        }
    }

    /// Each event may tell more; numbers are of the whole answer so far, and never fall.
    fn value(&mut self, json: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(json) else { return };
        for usage in [&value["usage"], &value["message"]["usage"], &value["response"]["usage"]] {
            let number = |name: &str| usage[name].as_u64();
            let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"].into_iter().filter_map(number);
            let read = number("prompt_tokens")
                .or_else(|| number("input_tokens").map(|read| cached.fold(read, u64::saturating_add)));
            let rest = || Some(number("total_tokens")?.saturating_sub(number("prompt_tokens")?));
            let written = number("completion_tokens").or_else(|| number("output_tokens")).or_else(rest);
            self.read = self.read.max(read);
            self.written = self.written.max(written);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n\
        : comment\r\ndata:{\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}\r\n\r\ndata: [DONE]\n\n";

    fn usage(content_type: &str, body: &str) -> Option<(u64, u64)> {
        let mut meter = Meter::new(Some(content_type));
        meter.push(body.as_bytes());
        meter.finish().map(|Usage { read, written }| (read, written))
    }

    #[test]
    fn answers_of_every_form_are_read() {
        let json = "application/json; charset=utf-8";
        for (content_type, body, expected) in [
            (json, r#"{"usage":{"prompt_tokens":9,"completion_tokens":4}}"#, Some((9, 4))),
            (json, r#"{"usage":{"input_tokens":9,"cache_read_input_tokens":5,"output_tokens":4}}"#, Some((14, 4))),
            (json, r#"{"usage":{"prompt_tokens":9,"total_tokens":9}}"#, Some((9, 0))),
            (json, r#"{"usage":{"prompt_tokens":9}}"#, None),
            (json, r#"{"usage":{"prompt_tokens":-9,"completion_tokens":"4"}}"#, None),
            (json, r#"{"usage":null}"#, None),
            (json, "{", None),
            (json, "", None),
            ("text/event-stream", STREAM, Some((9, 4))),
            ("text/event-stream", "data: {\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}", Some((9, 4))),
            (
                "text/event-stream",
                "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n\
                 data: {\"usage\":{\"output_tokens\":4}}\n\n",
                Some((9, 4)),
            ),
            (
                "text/event-stream",
                "data: {\"response\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":4}}}\n",
                Some((9, 4)),
            ),
            ("text/event-stream", "data: [DONE]\n\n", None),
            ("text/html", r#"{"usage":{"prompt_tokens":9,"completion_tokens":4}}"#, None),
        ] {
            assert_eq!(usage(content_type, body), expected, "{body}");
        }
        assert_eq!(Meter::new(None).finish(), None);
    }

    #[test]
    fn what_is_too_long_is_not_known() {
        let long = format!("{}{}", " ".repeat(MOST), r#"{"usage":{"prompt_tokens":9,"completion_tokens":4}}"#);
        assert_eq!(usage("application/json", &long), None);
        let stream = format!("data: {}\n{STREAM}", " ".repeat(MOST));
        assert_eq!(usage("text/event-stream", &stream), Some((9, 4)), "only that line");
    }

    proptest! {
        #[test]
        fn where_chunks_end_does_not_matter(cuts in prop::collection::vec(0..STREAM.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut meter = Meter::new(Some("text/event-stream"));
            let mut from = 0;
            for cut in cuts.into_iter().chain([STREAM.len()]) {
                meter.push(&STREAM.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(meter.finish(), Some(Usage { read: 9, written: 4 }));
        }
    }
}
