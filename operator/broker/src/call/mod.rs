//! One call: judged, recorded, made, and its end recorded.

mod answer;
mod end;
mod mail;
mod under_way;
mod web;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use countersign_core::money::Money;
use countersign_crds::Egress;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::CONTENT_LENGTH;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tracing::Instrument;

use self::under_way::UnderWay;
use crate::broker::Broker;
use crate::judge::allow::{Asked, Verdict, allow};
use crate::judge::credential::{self, SecretValue};
use crate::judge::headers::{self, Reads};
use crate::judge::mail::Mail;
use crate::judge::price::{Reserved, Tariff};
use crate::judge::target::Target;
use crate::limits::{Host, shrink};
use crate::record::{Admitted, Record};
use crate::refusal::{Reason, Refusal};
use crate::upstream::outgoing::Outgoing;

/// For a body that must be read before it can be judged.
const BODY: Duration = Duration::from_secs(30);

/// What goes out once the call is recorded.
enum Errand {
    Web(Box<hyper::Request<Outgoing>>),
    Mail { mail: Box<Mail>, login: Option<(String, String)> },
}

/// A body as far as it was read.
enum Read {
    Whole(Bytes),
    Passing(Body),
}

/// What the sandbox is told; `Err` where the broker itself answers.
pub async fn forward<R: Record>(broker: Arc<Broker<R>>, of: Admitted, request: Request) -> Result<Response, Refusal> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let Some(url) = parts.headers.get(headers::URL) else {
        return Err(Refusal::new(Reason::BadRequest, "the header countersign-url is missing; set it to the whole URL"));
    };
    let target = Target::parse(url.as_bytes())?;
    let contract = &of.launch.contract;
    let tariff = contract.cost.as_ref().map(Tariff::of).transpose()?;

    let (egress, body, memory) = judge(&broker, &of, &parts, &target, tariff.as_ref(), body).await?;
    let bytes: &[u8] = match &body {
        Read::Whole(bytes) => bytes,
        Read::Passing(_) => &[],
    };
    let reserved = match &tariff {
        // Of a mail nobody counts tokens.
        Some(tariff) if target.is_mail() => tariff.reserve(&[])?,
        Some(tariff) => tariff.reserve(bytes)?,
        None => Reserved { most: Money::ZERO, by_token: false },
    };
    let secret = match &egress.credential {
        Some(credential) => {
            let signed = of.launch.secrets.get(&credential.secret);
            Some(broker.secrets.read_signed(credential, &broker.fingerprints, signed).await?)
        }
        None => None,
    };
    let redactor = match (&egress.credential, &secret) {
        (Some(credential), Some(secret)) => Some(credential::redactor(credential, secret).map_err(|error| {
            Refusal::new(Reason::CredentialMissing, format!("Secret {}: {error}", credential.secret))
        })?),
        (Some(_), None) | (None, _) => None,
    };
    let (errand, counter) = errand(&broker, &parts, &target, &egress, secret.as_ref(), &reserved, body)?;

    broker.rates.count(&of.launch.skill, contract.calls_per_minute)?;
    let authority = format!("{}:{}", target.host, target.port);
    let permit = broker.breakers.admit(Host { skill: of.launch.skill.clone(), authority })?;
    let most = broker.limits.call.min(Duration::from_secs(of.launch.timeout_seconds.into()));
    let under_way = UnderWay {
        method: parts.method.to_string(),
        deadline: tokio::time::Instant::from_std(started + most),
        broker: Arc::clone(&broker),
        of,
        target,
        egress,
        tariff,
        reserved,
        redactor,
        counter,
        started,
    };
    // In a task of its own, so that the end is recorded whatever becomes of the sandbox's connection.
    let (head, answer) = oneshot::channel();
    let span = tracing::Span::current();
    broker.calls.spawn(
        async move {
            under_way.run(errand, permit, head).await;
            drop(memory);
        }
        .instrument(span),
    );
    answer.await.unwrap_or_else(|_| Err(Refusal::new(Reason::Ending, "the broker ended before the call was made")))
}

/// Which entry of the egress lets it through, and the body as far as it had to be read for that.
async fn judge<R: Record>(
    broker: &Broker<R>,
    of: &Admitted,
    parts: &Parts,
    target: &Target,
    tariff: Option<&Tariff>,
    body: Body,
) -> Result<(Egress, Read, Option<OwnedSemaphorePermit>), Refusal> {
    let asked = |body| Asked { target, method: parts.method.as_str(), body };
    let verdict = allow(&of.launch, &asked(None))?;
    let most = broker.limits.request_bytes;
    let declared = declared(&parts.headers);
    if declared.is_some_and(|bytes| bytes > most) {
        return Err(too_large(most));
    }
    let by_token = tariff.is_some_and(Tariff::is_by_token);
    let egress = match verdict {
        Verdict::Allowed(egress) => {
            let signs = egress.credential.as_ref().is_some_and(credential::signs);
            if !(target.is_mail() || by_token || signs) {
                return Ok((egress.clone(), Read::Passing(body), None));
            }
            Some(egress)
        }
        Verdict::NeedsBody => None,
    };
    let memory = broker.buffers.take(declared.unwrap_or(most))?;
    let whole = read(body, most).await?;
    let memory = shrink(memory, whole.len());
    let judged_by_body = egress.is_none() || (by_token && !whole.is_empty());
    if judged_by_body && !headers::is_plain(&parts.headers) {
        let detail = "the body is judged, so it must come as it is; leave content-encoding out";
        return Err(Refusal::new(Reason::BadRequest, detail));
    }
    let egress =
        match egress.map_or_else(|| allow(&of.launch, &asked(Some(&whole))), |egress| Ok(Verdict::Allowed(egress)))? {
            Verdict::Allowed(egress) => egress.clone(),
            Verdict::NeedsBody => return Err(Refusal::new(Reason::BadRequest, "the body cannot be judged")),
        };
    Ok((egress, Read::Whole(whole), Some(memory)))
}

/// The request or message as it will leave, credential included.
fn errand<R: Record>(
    broker: &Broker<R>,
    parts: &Parts,
    target: &Target,
    egress: &Egress,
    secret: Option<&SecretValue>,
    reserved: &Reserved,
    body: Read,
) -> Result<(Errand, crate::upstream::outgoing::Counter), Refusal> {
    let credential = egress.credential.as_ref().zip(secret);
    if target.is_mail() {
        let Read::Whole(bytes) = body else { return Err(Refusal::new(Reason::BadRequest, "a mail needs a body")) };
        let login = credential.map(|(credential, secret)| credential::login(credential, secret)).transpose()?;
        let counter = crate::upstream::outgoing::Counter::default();
        return Ok((Errand::Mail { mail: Box::new(Mail::parse(&bytes)?), login }, counter));
    }
    let bad = |error: &dyn std::fmt::Display| Refusal::new(Reason::BadRequest, error.to_string());
    let authority = HeaderValue::from_str(&target.authority()).map_err(|error| bad(&error))?;
    let reads = if credential.is_some() || reserved.by_token { Reads::Body } else { Reads::Nothing };
    let mut headers = headers::request(&parts.headers, &authority, credential.is_none(), reads);
    if !egress.json_rpc.is_empty() {
        headers::as_json(&mut headers);
    }
    let (body, bytes) = match body {
        Read::Whole(bytes) => (Body::from(bytes.clone()), bytes),
        Read::Passing(body) => (body, Bytes::new()),
    };
    if let Some((credential, secret)) = credential {
        credential::show(credential, secret, &mut headers, &bytes, Timestamp::now().as_second())?;
    }
    let (outgoing, counter) = Outgoing::new(body, broker.limits.request_bytes);
    let mut request = hyper::Request::new(outgoing);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = target.path_and_query().parse().map_err(|error| bad(&error))?;
    *request.headers_mut() = headers;
    Ok((Errand::Web(Box::new(request)), counter))
}

/// A whole body, within bounds of size and time.
pub async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    let whole = tokio::time::timeout(BODY, Limited::new(body, most).collect()).await;
    let whole = whole.map_err(|_| {
        Refusal::new(Reason::Timeout, format!("the body did not come to its end within {} s", BODY.as_secs()))
    })?;
    match whole {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(most)),
        Err(error) => Err(Refusal::new(Reason::BadRequest, format!("the body did not come to its end: {error}"))),
    }
}

/// How long a body says that it is.
pub fn declared(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(most: usize) -> Refusal {
    Refusal::new(Reason::RequestTooLarge, format!("the body is longer than {most} bytes"))
}
