//! Between a driver and its node: counts requests, cuts at one of them, and does not answer as it should.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use reqwest::{Client, Url};
use serde_json::{Value, json};

use crate::knife::{Knife, Moment};

/// What becomes of a request, and of its answer.
#[derive(Clone, Debug)]
pub enum Lie {
    None,
    /// It arrives, and is never answered.
    Late,
    /// It arrives, and the answer is lost.
    Lost,
    /// It arrives twice, and the second answer comes back.
    Twice,
    /// It does not arrive.
    Html,
    Failing,
    Error(&'static str),
    /// In place of the true answer, which came to be.
    Answer(Value),
    /// The true answer, with this character of those that are hexadecimal digits made another.
    Digit(usize),
    /// The answer to another request.
    WrongId,
}

type Choose = Box<dyn FnMut(&str) -> Lie + Send>;

struct Shared {
    target: Url,
    client: Client,
    choose: Mutex<Choose>,
    lies: AtomicUsize,
}

/// Stands for as long as the test does; each life of a driver has a door of its own to it.
pub struct Node {
    shared: Arc<Shared>,
}

pub struct Door {
    pub url: Url,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub fn new(target: Url, client: Client) -> Node {
        let choose: Choose = Box::new(|_| Lie::None);
        Node { shared: Arc::new(Shared { target, client, choose: Mutex::new(choose), lies: AtomicUsize::new(0) }) }
    }

    /// `choose` says by the method's name what to do.
    pub fn choose(&self, choose: impl FnMut(&str) -> Lie + Send + 'static) {
        *self.shared.choose.lock().unwrap() = Box::new(choose);
    }

    pub fn honest(&self) {
        self.choose(|_| Lie::None);
    }

    /// How many it told.
    pub fn lies(&self) -> usize {
        self.shared.lies.load(Ordering::SeqCst)
    }

    pub async fn door(&self, knife: Arc<Knife>) -> Door {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let router = Router::new().route("/", post(handle)).with_state((Arc::clone(&self.shared), knife));
        let task = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Door { url, task }
    }
}

async fn handle(State((shared, knife)): State<(Arc<Shared>, Arc<Knife>)>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).unwrap();
    let pass = || async {
        let request = shared.client.post(shared.target.clone()).header("content-type", "application/json");
        let answer = request.body(body.clone()).send().await.unwrap();
        serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap()
    };
    if knife.counts() {
        if knife.moment == Moment::After {
            pass().await;
        }
        knife.fall();
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let lie = (shared.choose.lock().unwrap())(request["method"].as_str().unwrap());
    if !matches!(lie, Lie::None) {
        shared.lies.fetch_add(1, Ordering::SeqCst);
    }
    let id = &request["id"];
    let answer = match lie {
        Lie::None => pass().await,
        Lie::Late => {
            pass().await;
            std::future::pending().await
        }
        Lie::Lost => {
            pass().await;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        Lie::Twice => {
            pass().await;
            pass().await
        }
        Lie::Html => return "<html><body>Please log in</body></html>".into_response(),
        Lie::Failing => return (StatusCode::INTERNAL_SERVER_ERROR, "oops").into_response(),
        Lie::Error(message) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32_000, "message": message } }),
        Lie::Answer(result) => {
            pass().await;
            json!({ "jsonrpc": "2.0", "id": id, "result": result })
        }
        Lie::Digit(which) => {
            let mut answer = pass().await;
            change(&mut answer["result"], which);
            answer
        }
        Lie::WrongId => {
            let mut answer = pass().await;
            answer["id"] = json!(1_000_000);
            answer
        }
    };
    answer.to_string().into_response()
}

/// Makes one digit another, of all that follow a 0x.
fn change(value: &mut Value, which: usize) {
    let mut all = 0;
    each(value, &mut |_| all += 1);
    if all == 0 {
        return;
    }
    let (chosen, mut at) = (which % all, 0);
    each(value, &mut |digit| {
        if at == chosen {
            *digit = if *digit == b'1' { b'2' } else { b'1' };
        }
        at += 1;
    });
}

fn each(value: &mut Value, of: &mut impl FnMut(&mut u8)) {
    match value {
        Value::String(text) if text.starts_with("0x") => {
            let mut bytes = text.clone().into_bytes();
            bytes[2..].iter_mut().for_each(of);
            *text = String::from_utf8(bytes).unwrap();
        }
        Value::Array(values) => values.iter_mut().for_each(|value| each(value, of)),
        Value::Object(values) => values.values_mut().for_each(|value| each(value, of)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
