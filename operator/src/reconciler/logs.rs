//! Reads an output that was too large for the termination message from the pod's framed log lines.

use base64::Engine;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde::Deserialize;

use crate::watch::views::SKILL_CONTAINER;

/// Frames are base64, so a log of the largest output stays below this.
const LOG_LIMIT_BYTES: i64 = 16 * 1024 * 1024;

#[derive(Deserialize)]
struct Line {
    countersign: u32,
    output: Option<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    seq: usize,
    of: usize,
    data: String,
}

/// The output's bytes; the caller checks them against the reported digest.
pub async fn read_output(pods: &Api<Pod>, pod: &str) -> Result<Vec<u8>, String> {
    let params = LogParams {
        container: Some(SKILL_CONTAINER.to_owned()),
        limit_bytes: Some(LOG_LIMIT_BYTES),
        ..LogParams::default()
    };
    let log = pods.logs(pod, &params).await.map_err(|error| error.to_string())?;
    assemble(&log)
}

fn assemble(log: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut next = 0;
    let mut last = None;
    for line in log.lines() {
        let Ok(Line { countersign: 1, output: Some(Frame { seq, of, data }) }) = serde_json::from_str(line) else {
            continue;
        };
        if seq != next || last.is_some_and(|last| last != of) {
            return Err(format!("frame {seq} of {of} is not the one that was to follow"));
        }
        next += 1;
        last = Some(of);
        let chunk = base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| error.to_string())?;
        bytes.extend(chunk);
    }
    match last {
        Some(of) if of == next => Ok(bytes),
        Some(of) => Err(format!("{next} of {of} frames are there")),
        None => Err("there is no frame in it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(seq: usize, of: usize, text: &str) -> String {
        let data = base64::engine::general_purpose::STANDARD.encode(text);
        format!(r#"{{"countersign":1,"output":{{"seq":{seq},"of":{of},"data":"{data}"}}}}"#)
    }

    #[test]
    fn frames_between_log_lines_make_the_output() {
        let log = [
            r#"{"countersign":1,"log":"hello"}"#.to_owned(),
            frame(0, 2, "{\"a\":"),
            "not ours".to_owned(),
            frame(1, 2, "1}"),
        ];
        assert_eq!(assemble(&log.join("\n")), Ok(b"{\"a\":1}".to_vec()));
    }

    #[test]
    fn a_missing_repeated_or_foreign_frame_is_an_error() {
        for log in [
            String::new(),
            frame(0, 2, "x"),
            [frame(1, 2, "x"), frame(0, 2, "y")].join("\n"),
            [frame(0, 2, "x"), frame(0, 2, "x"), frame(1, 2, "y")].join("\n"),
            [frame(0, 2, "x"), frame(1, 3, "y"), frame(2, 3, "z")].join("\n"),
        ] {
            assert!(assemble(&log).is_err(), "{log}");
        }
    }
}
