//! One delivery: the way of a Skill's calls, with an egress that the chart gives.

use axum::body::Body;
use countersign_crds::Credential;
use countersign_store::Alert;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use jiff::Timestamp;

use super::body;
use crate::broker::Broker;
use crate::judge::credential;
use crate::judge::target::Target;
use crate::secrets::Secrets;
use crate::upstream::connect::{NotConnected, addresses};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::web::ready;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// Where alerts go.
#[derive(Clone)]
pub struct Webhook {
    pub target: Target,
    /// Ranges that it may resolve to although they are not public.
    pub addresses: Vec<String>,
    /// What signs them.
    pub credential: Credential,
    pub secrets: Secrets,
}

/// A path may be as good as a password.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Webhook { target, addresses, credential, secrets: _ } = self;
        f.debug_struct("Webhook")
            .field("authority", &target.authority())
            .field("addresses", addresses)
            .field("secret", &credential.secret)
            .finish_non_exhaustive()
    }
}

/// What came of a try. Closed; the metrics know these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Another answer than 2xx: a redirect is one of them.
    Rejected,
    AddressRefused,
    Unreachable,
    /// It was lost before its answer was there.
    Broken,
    Timeout,
    /// It cannot be signed.
    Unsigned,
}

impl Outcome {
    pub const ALL: [Outcome; 7] = [
        Outcome::Delivered,
        Outcome::Rejected,
        Outcome::AddressRefused,
        Outcome::Unreachable,
        Outcome::Broken,
        Outcome::Timeout,
        Outcome::Unsigned,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Delivered => "delivered",
            Outcome::Rejected => "rejected",
            Outcome::AddressRefused => "address-refused",
            Outcome::Unreachable => "unreachable",
            Outcome::Broken => "broken",
            Outcome::Timeout => "timeout",
            Outcome::Unsigned => "unsigned",
        }
    }
}

/// Why it was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub outcome: Outcome,
    pub why: String,
}

impl Webhook {
    pub fn authority(&self) -> String {
        self.target.authority()
    }

    pub async fn send<R>(&self, broker: &Broker<R>, alert: &Alert) -> Result<(), Failed> {
        let request = self.request(alert).await.map_err(|why| Failed { outcome: Outcome::Unsigned, why })?;
        let addresses = addresses(&*broker.resolver, &broker.guard, &self.target, &self.addresses).await;
        let addresses = addresses.map_err(|why| self.not_connected(why))?;
        let connected = ready(&broker.trust, &self.target, &addresses, broker.limits.connect).await;
        let connected = connected.map_err(|why| self.not_connected(why))?;
        let response = connected.send(request).await.map_err(|error| Failed {
            outcome: Outcome::Broken,
            why: format!("{} did not answer as it should: {error}", self.authority()),
        })?;
        if response.status().is_success() {
            return Ok(());
        }
        let why = format!("{} answered {}, and only 2xx means that it was taken", self.authority(), response.status());
        Err(Failed { outcome: Outcome::Rejected, why })
    }

    async fn request(&self, alert: &Alert) -> Result<Request<Outgoing>, String> {
        let body = body::body(alert).map_err(|error| error.to_string())?;
        let text = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(HOST, text(&self.authority())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static("countersign-broker"));
        headers.insert(WEBHOOK_ID, text(&body::id(alert))?);
        let secret = self.secrets.read(&self.credential).await.map_err(|refusal| refusal.detail)?;
        let now = Timestamp::now().as_second();
        credential::show(&self.credential, &secret, &mut headers, &body, now).map_err(|error| error.to_string())?;
        let (outgoing, _) = Outgoing::new(Body::from(body), usize::MAX);
        let mut request = Request::new(outgoing);
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            self.target.path_and_query().parse().map_err(|error| format!("alerts.webhook.url: {error}"))?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Nothing of it left.
    fn not_connected(&self, why: NotConnected) -> Failed {
        match why {
            NotConnected::Refused(error) => Failed {
                outcome: Outcome::AddressRefused,
                why: format!("alerts.webhook: {} resolves to {error}", self.target.host),
            },
            NotConnected::Unreachable(why) => {
                Failed { outcome: Outcome::Unreachable, why: format!("{} cannot be reached: {why}", self.authority()) }
            }
        }
    }
}
