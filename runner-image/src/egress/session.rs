//! The session: opened once with the attempt's token, before the skill starts, and carried by every call after that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::broker::{Broker, Connection, Failure};

/// How long a broker that is not there yet is tried.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// For a call of the runner's own, answer included.
const CALL: Duration = Duration::from_secs(30);
/// Of an answer that is not a file.
const ANSWER_BYTES: usize = 64 * 1024;

pub struct Session {
    broker: Arc<Broker>,
    bearer: HeaderValue,
    secret: String,
}

/// Why there is no session; nothing was started.
#[derive(Debug)]
pub enum NotOpened {
    Unreachable(String),
    Refused(String),
}

/// What the broker says where it refuses (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    detail: String,
}

#[derive(Deserialize)]
struct Opened {
    session: String,
}

enum Try {
    Again(String),
    Over(NotOpened),
}

impl Session {
    pub async fn open(broker: Broker, attempt: &str, token: &str) -> Result<Session, NotOpened> {
        let broker = Arc::new(broker);
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match Session::try_open(&broker, attempt, token).await {
                Ok(session) => return Ok(session),
                Err(Try::Over(why)) => return Err(why),
                Err(Try::Again(why)) if started.elapsed() + pause > PATIENCE => {
                    return Err(NotOpened::Unreachable(format!("{why}; tried for {} s", PATIENCE.as_secs())));
                }
                Err(Try::Again(_)) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Only what certainly did not use the token is tried again.
    async fn try_open(broker: &Arc<Broker>, attempt: &str, token: &str) -> Result<Session, Try> {
        let refused = |why: String| Try::Over(NotOpened::Refused(why));
        let body = json!({"attempt": attempt, "token": token}).to_string();
        let request =
            Request::post("/v1/sessions").header(CONTENT_TYPE, "application/json").header(HOST, broker.host());
        let mut connection = Connection::new(Arc::clone(broker));
        let answer = exchange(&mut connection, request, body.into(), ANSWER_BYTES).await;
        let (status, bytes) = answer.map_err(|failure| match failure {
            Failure::NotSent { why: _, last: false } => Try::Again(failure.to_string()),
            Failure::NotSent { why: _, last: true } => Try::Over(NotOpened::Unreachable(failure.to_string())),
            Failure::Lost(_) => refused(format!("{failure}; its token may be used now")),
        })?;
        match status {
            StatusCode::CREATED => {}
            StatusCode::SERVICE_UNAVAILABLE => {
                return Err(Try::Again(format!("the broker: {}", detail(status, &bytes))));
            }
            StatusCode::CONFLICT => {
                let detail = detail(status, &bytes);
                return Err(refused(format!("somebody else has used this attempt's token at the broker: {detail}")));
            }
            _ => return Err(refused(format!("the broker opens no session: {}", detail(status, &bytes)))),
        }
        let opened = serde_json::from_slice(&bytes).ok().and_then(|Opened { session }| {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {session}")).ok()?;
            bearer.set_sensitive(true);
            (!session.is_empty()).then_some(Session { broker: Arc::clone(broker), bearer, secret: session })
        });
        opened.ok_or_else(|| refused("the broker opened a session and did not name it".to_owned()))
    }

    /// What must not be seen in a log.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    pub fn connection(&self) -> Connection {
        Connection::new(Arc::clone(&self.broker))
    }

    /// A request in this session; of its target only the path.
    pub fn request(&self, method: Method, path: &str) -> hyper::http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.broker.host())
            .header(AUTHORIZATION, self.bearer.clone())
    }

    /// A call of the runner's own: the body of the expected answer, or what came instead.
    pub async fn call(
        &self,
        connection: &mut Connection,
        (method, path): (Method, &str),
        body: Bytes,
        limit: usize,
    ) -> Result<Bytes, String> {
        let what = format!("{method} {path}");
        let request = self.request(method, path);
        let (status, bytes) = exchange(connection, request, body, limit.max(ANSWER_BYTES))
            .await
            .map_err(|failure| format!("{what}: {failure}"))?;
        if status.is_success() { Ok(bytes) } else { Err(format!("{what}: the broker: {}", detail(status, &bytes))) }
    }
}

async fn exchange(
    connection: &mut Connection,
    request: hyper::http::request::Builder,
    body: Bytes,
    limit: usize,
) -> Result<(StatusCode, Bytes), Failure> {
    let lost = |error: &dyn std::fmt::Display| Failure::Lost(error.to_string());
    let request = request.body(Either::Right(Full::new(body))).map_err(|error| lost(&error))?;
    let whole = async {
        let response = connection.send(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), limit).collect().await.map_err(|error| lost(&error))?;
        Ok((status, body.to_bytes()))
    };
    match tokio::time::timeout(CALL, whole).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Lost(format!("no answer within {} s", CALL.as_secs()))),
    }
}

fn detail(status: StatusCode, bytes: &[u8]) -> String {
    match serde_json::from_slice(bytes) {
        Ok(Problem { detail }) => format!("{} ({status})", detail.chars().take(300).collect::<String>()),
        Err(_) => status.to_string(),
    }
}
