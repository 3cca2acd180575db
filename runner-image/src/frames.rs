//! The lines on the runner's stdout: the skill's stderr as log lines, a large output as numbered frames.

use std::io::Write;

use base64::Engine;
use serde_json::json;

/// How many bytes of a line of the skill's stderr are kept.
const LINE_BYTES: usize = 4096;
/// How many lines of the skill's stderr are kept.
const LINES: usize = 2000;
const FRAME_BYTES: usize = 8192;
const REDACTED: &[u8] = b"[redacted]";

/// Copies the skill's stderr into log frames until it ends. What is beyond the bounds is read and dropped,
/// so that a chatty skill is never blocked; what is secret is not shown.
pub fn relay_log(mut from: impl std::io::Read, secrets: &[String]) {
    let mut line = Vec::new();
    let mut lines = 0;
    // One byte more than is kept shows that there was more, and no secret is cut before it is found.
    let read_of_line = LINE_BYTES + 1 + secrets.iter().map(String::len).max().unwrap_or(0);
    let mut buffer = [0; 8192];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for byte in &buffer[..read] {
            match byte {
                b'\n' => log_line(&mut line, &mut lines, secrets),
                byte if line.len() < read_of_line => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        log_line(&mut line, &mut lines, secrets);
    }
}

fn log_line(line: &mut Vec<u8>, lines: &mut usize, secrets: &[String]) {
    *lines += 1;
    if *lines <= LINES {
        redact(line, secrets);
        let cut = line.len() > LINE_BYTES;
        line.truncate(LINE_BYTES);
        let text = String::from_utf8_lossy(line);
        let text = if cut { format!("{text} […]") } else { text.into_owned() };
        write_line(&json!({"countersign": 1, "log": text}));
    } else if *lines == LINES + 1 {
        write_line(&json!({"countersign": 1, "log": "[the rest of the log is dropped]"}));
    }
    line.clear();
}

fn redact(line: &mut Vec<u8>, secrets: &[String]) {
    for secret in secrets.iter().map(String::as_bytes).filter(|secret| !secret.is_empty()) {
        while let Some(at) = line.windows(secret.len()).position(|part| part == secret) {
            line.splice(at..at + secret.len(), REDACTED.iter().copied());
        }
    }
}

pub fn write_output(bytes: &[u8]) {
    let of = bytes.len().div_ceil(FRAME_BYTES);
    for (seq, chunk) in bytes.chunks(FRAME_BYTES).enumerate() {
        let data = base64::engine::general_purpose::STANDARD.encode(chunk);
        write_line(&json!({"countersign": 1, "output": {"seq": seq, "of": of, "data": data}}));
    }
}

/// Nobody may be left to read it, and the report does not depend on it.
fn write_line(value: &serde_json::Value) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{value}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown_wherever_it_is() {
        let secrets = ["token".to_owned(), String::new(), "session".to_owned()];
        let shown = |line: &str| {
            let mut line = line.as_bytes().to_vec();
            redact(&mut line, &secrets);
            String::from_utf8(line).unwrap()
        };
        assert_eq!(shown("a token, tokentoken: sessio"), "a [redacted], [redacted][redacted]: sessio");
        assert_eq!(shown("session"), "[redacted]");
        assert_eq!(shown(""), "");
    }
}
