//! The lines on the runner's stdout: the skill's stderr as log lines, a large output as numbered frames.

use std::io::Write;

use base64::Engine;
use serde_json::json;

/// How many bytes of a line of the skill's stderr are kept.
const LINE_BYTES: usize = 4096;
/// How many lines of the skill's stderr are kept.
const LINES: usize = 2000;
const FRAME_BYTES: usize = 8192;

/// Copies the skill's stderr into log frames until it ends. What is beyond the bounds is read and dropped,
/// so that a chatty skill is never blocked.
pub fn relay_log(mut from: impl std::io::Read) {
    let mut line = Vec::new();
    let mut lines = 0;
    let mut buffer = [0; 8192];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for byte in &buffer[..read] {
            match byte {
                b'\n' => log_line(&mut line, &mut lines),
                // One byte more than is kept shows that there was more.
                byte if line.len() <= LINE_BYTES => line.push(*byte),
                _ => {}
            }
        }
    }
    if !line.is_empty() {
        log_line(&mut line, &mut lines);
    }
}

fn log_line(line: &mut Vec<u8>, lines: &mut usize) {
    *lines += 1;
    if *lines <= LINES {
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
