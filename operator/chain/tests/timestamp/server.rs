//! A web server that answers as it is told to.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_chain::timestamp::{Authority, ObjectIdentifier, Roots, Settings};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub const REPLY: &str = "application/timestamp-reply";

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub kind: Option<&'static str>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn reply(body: Vec<u8>) -> Answer {
        Answer { status: 200, kind: Some(REPLY), body }
    }
}

/// What a query is answered with; `None` never comes.
type Handler = Arc<dyn Fn(Vec<u8>) -> Option<Answer> + Send + Sync>;

/// Its address. Lives as long as the runtime.
pub async fn serve(handler: impl Fn(Vec<u8>) -> Option<Answer> + Send + Sync + 'static) -> String {
    let handler: Handler = Arc::new(handler);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = Arc::clone(&handler);
            let service = service_fn(move |request| answer(Arc::clone(&handler), request));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    format!("http://{address}/stamp")
}

async fn answer(handler: Handler, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "/stamp");
    assert_eq!(head.headers["content-type"], "application/timestamp-query");
    let body = body.collect().await.unwrap().to_bytes().to_vec();
    let Some(Answer { status, kind, body }) = tokio::task::spawn_blocking(move || handler(body)).await.unwrap() else {
        return std::future::pending().await;
    };
    let mut response = Response::builder().status(status);
    if let Some(kind) = kind {
        response = response.header("content-type", kind);
    }
    Ok(response.body(Full::new(body.into())).unwrap())
}

pub fn authority(url: &str, policy: Option<&str>, roots: Roots, patience: Duration) -> Authority {
    // It says that there is one already, of every test but the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(patience).build().unwrap();
    let policy = policy.map(|policy| policy.parse::<ObjectIdentifier>().unwrap());
    Authority::new(Settings { url: url.parse().unwrap(), policy, roots }, client)
}
