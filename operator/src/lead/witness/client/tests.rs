//! Against servers on loopback that answer as they are told, in the clear and over TLS.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use countersign_core::tlog::CosigningKey;
use serde_json::json;

use super::*;

const SPLIT: &str = "\u{2014} w AAAA\n";

type Answers = Arc<Mutex<Vec<(u16, &'static str, String)>>>;

/// What it was asked, and the answers that it will give.
async fn server(
    certificate: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>,
    answers: Answers,
) -> (String, Arc<Mutex<String>>) {
    let asked = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&asked);
    let answer = move |body: String| {
        *told.lock().unwrap() = body;
        let (status, kind, text) = answers.lock().unwrap().remove(0);
        async move { (StatusCode::from_u16(status).unwrap(), [(header::CONTENT_TYPE, kind)], text).into_response() }
    };
    let router = Router::new().route("/w/add-checkpoint", post(answer)).into_make_service();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    match certificate {
        None => {
            tokio::spawn(axum_server::from_tcp(listener).unwrap().serve(router));
            (format!("http://127.0.0.1:{port}/w/"), asked)
        }
        Some(made) => {
            let pem = (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes());
            let config = RustlsConfig::from_pem(pem.0, pem.1).await.unwrap();
            tokio::spawn(axum_server::from_tcp_rustls(listener, config).unwrap().serve(router));
            (format!("https://localhost:{port}/w"), asked)
        }
    }
}

fn client(url: &str, ca: &str) -> Client {
    let key = CosigningKey::new("w", [1; 32]).unwrap().witness_key().to_string();
    let text = json!([{"url": url, "key": key, "ca": ca}]).to_string();
    let source = |_: &str| Some(text.clone());
    let read = crate::settings::witness::read(&countersign_service::settings::Source(&source)).unwrap();
    Client::new(&read[0])
}

fn request() -> Request {
    Request { old: 7, proof: Vec::new(), checkpoint: "log\n7\nroot\n\n\u{2014} log AAAA\n".to_owned() }
}

#[tokio::test]
async fn each_answer_is_what_it_is() {
    let size = "text/x.tlog.size";
    let answers: Answers = Arc::new(Mutex::new(vec![
        (200, "text/plain", SPLIT.to_owned()),
        (409, size, "12\n".to_owned()),
        (409, size, "many\n".to_owned()),
        (409, "text/plain", "12\n".to_owned()),
        (422, "text/plain", "the proof\n".to_owned()),
        (200, "text/plain", "x".repeat(200_000)),
    ]));
    let (url, asked) = server(None, answers).await;
    let client = client(&url, "");
    let mut found = Vec::new();
    for _ in 0..6 {
        found.push(match client.add(&request()).await {
            Ok(Answer::Lines(lines)) => lines,
            Ok(Answer::Cosigned { size }) => format!("size {size}"),
            Err(Failed { outcome, why }) => format!("{outcome:?} {why}"),
        });
        assert_eq!(*asked.lock().unwrap(), request().encode());
    }
    assert_eq!(&found[..2], [SPLIT, "size 12"]);
    for (found, expected) in found[2..].iter().zip(["Refused", "Refused", "Refused", "Unreachable"]) {
        assert!(found.starts_with(expected), "{found}");
    }
    assert!(found[4].contains("422 Unprocessable Entity: the proof"), "{}", found[4]);
}

#[tokio::test]
async fn a_witness_with_its_own_ca_is_trusted_by_that_ca_only() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let answers = || Arc::new(Mutex::new(vec![(200, "text/plain", SPLIT.to_owned())]));
    let (url, _) = server(Some(&made), answers()).await;
    let trusting = client(&url, &made.cert.pem());
    assert!(matches!(trusting.add(&request()).await, Ok(Answer::Lines(lines)) if lines == SPLIT));
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for ca in [other.cert.pem(), String::new()] {
        let Err(Failed { outcome, why }) = client(&url, &ca).add(&request()).await else { panic!("it was trusted") };
        assert_eq!(outcome, Submitted::Unreachable);
        assert!(why.contains("certificate"), "{why}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Err(Failed { outcome, why }) = client(&format!("http://{nobody}"), "").add(&request()).await else { panic!() };
    assert_eq!(outcome, Submitted::Unreachable, "{why}");
}
