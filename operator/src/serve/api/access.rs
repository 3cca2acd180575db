//! Who reads: known by a token of the cluster's (TokenReview), allowed by what the cluster says (SubjectAccessReview).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use countersign_crds::{AgentReference, GROUP, Identity};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::ResourceAttributes;
use kube::api::PostParams;
use kube::{Api, Client};

use super::Shared;
use super::problem::Problem;
use crate::rights;
use crate::serve::admission::requester;

#[cfg(test)]
mod tests;

/// For how long an answer may be worked on.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any token; anything beyond is not passed on.
const TOKEN_LIMIT: usize = 16 * 1024;

/// Whom the API server took the token's bearer for.
#[derive(Clone)]
pub struct Caller {
    user: UserInfo,
    client: Client,
}

/// Lets a request through whose caller is known and has not asked too much.
pub async fn authenticate(
    State(shared): State<Shared>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    path: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    // The template, never the path: names do not become labels.
    let path = path.map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let response = match admitted(&shared, peer.ip(), token(&request)).await {
        Err(problem) => problem.into_response(),
        Ok(caller) => match (shared.limits.enter(), shared.limits.count(caller.name())) {
            (Err(problem), _) | (_, Err(problem)) => problem.into_response(),
            (Ok(_entered), Ok(())) => {
                request.extensions_mut().insert(caller);
                let answered = tokio::time::timeout(PATIENCE, next.run(request)).await;
                answered
                    .unwrap_or_else(|_| Problem::unavailable("the record does not answer; try again").into_response())
            }
        },
    };
    shared.metrics.api(&path, response.status().as_u16());
    response
}

fn token(request: &Request) -> Option<String> {
    let header = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    header.strip_prefix("Bearer ").filter(|token| (1..=TOKEN_LIMIT).contains(&token.len())).map(str::to_owned)
}

async fn admitted(shared: &Shared, from: IpAddr, token: Option<String>) -> Result<Caller, Problem> {
    let token = token.ok_or_else(|| {
        Problem::unauthenticated(
            "send a token of the cluster's: Authorization: Bearer …; `kubectl create token` makes one",
        )
    })?;
    let reviews: Api<TokenReview> = Api::all(shared.client.clone());
    let spec = TokenReviewSpec { token: Some(token), ..TokenReviewSpec::default() };
    let review = TokenReview { spec, ..TokenReview::default() };
    let status = match shared.limits.review(from, reviews.create(&PostParams::default(), &review)).await? {
        Ok(review) => review.status.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "a token was not reviewed");
            return Err(Problem::unavailable("the API server cannot be asked who you are; try again"));
        }
    };
    match status.user {
        Some(user) if status.authenticated == Some(true) && user.username.is_some() => {
            Ok(Caller { user, client: shared.client.clone() })
        }
        _ => Err(Problem::unauthenticated("the API server does not know this token; it may have expired")),
    }
}

impl Caller {
    fn name(&self) -> &str {
        self.user.username.as_deref().unwrap_or_default()
    }

    pub fn identity(&self) -> Identity {
        Identity {
            user: self.name().to_owned(),
            uid: self.user.uid.clone(),
            groups: self.user.groups.clone().unwrap_or_default(),
        }
    }

    /// The caller as whoever creates a Task is kept, or why they could not create one.
    pub fn requester(&self) -> Result<Option<Identity>, Problem> {
        requester::of(&self.user).map_err(|refusal| Problem::bad_request(refusal.message))
    }

    /// Whether the caller may list Tasks in this namespace; in all of them where it is `None`.
    pub async fn may_read(&self, namespace: Option<&str>) -> Result<(), Problem> {
        self.may("list", "tasks", namespace).await
    }

    /// Whether the caller may create Tasks in this namespace.
    pub async fn may_create(&self, namespace: &str) -> Result<(), Problem> {
        self.may("create", "tasks", Some(namespace)).await
    }

    /// Whether the caller may have what ended for nothing in the outbox tried again.
    pub async fn may_retry(&self) -> Result<(), Problem> {
        self.may("retry", "outbox", None).await
    }

    /// Whether the caller may name this Agent in a Task of this namespace.
    pub async fn may_act_as(&self, namespace: &str, agent: &AgentReference) -> Result<(), Problem> {
        self.has(agent.use_right(namespace)).await
    }

    async fn may(&self, verb: &str, resource: &str, namespace: Option<&str>) -> Result<(), Problem> {
        self.has(ResourceAttributes {
            group: Some(GROUP.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some(verb.to_owned()),
            namespace: namespace.map(str::to_owned),
            ..ResourceAttributes::default()
        })
        .await
    }

    async fn has(&self, right: ResourceAttributes) -> Result<(), Problem> {
        match rights::allowed(&self.client, &self.user, right.clone()).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let ResourceAttributes { verb, resource, name, namespace, .. } = right;
                let (verb, resource) = (verb.unwrap_or_default(), resource.unwrap_or_default());
                let resource = name.map_or(resource.clone(), |name| format!("{resource}/{name}"));
                let place = namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"));
                Err(Problem::forbidden(format!("{} may not {verb} {resource} of {GROUP} in {place}", self.name())))
            }
            Err(error) => {
                tracing::warn!(%error, "a caller's rights were not asked");
                Err(Problem::unavailable("the API server cannot be asked what you may do; try again"))
            }
        }
    }
}
