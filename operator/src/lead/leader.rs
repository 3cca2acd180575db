//! Leader election on a Lease, after client-go's algorithm: a lease counts as expired when this process has
//! seen it unchanged for its whole duration, so that clocks need not agree.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};

/// How long a lease holds without being renewed.
const DURATION: Duration = Duration::from_secs(10);
/// How long the holder tries to renew before it steps back; less than the duration, so that it has stepped
/// back before anybody else may begin.
const RENEW_DEADLINE: Duration = Duration::from_secs(7);
const RETRY: Duration = Duration::from_secs(1);

pub struct Election {
    leases: Api<Lease>,
    name: String,
    identity: String,
}

/// What to do about a lease that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Take,
    Wait,
}

/// A lease as this process sees it: who holds it, and how long it has looked just like this.
#[derive(Clone, Debug)]
struct Seen {
    holder: String,
    version: String,
    since: Instant,
}

fn step(now: Instant, identity: &str, seen: Option<&Seen>) -> Step {
    match seen {
        None => Step::Take,
        Some(seen) if seen.holder.is_empty() || seen.holder == identity => Step::Take,
        Some(seen) if now.duration_since(seen.since) >= DURATION => Step::Take,
        Some(_) => Step::Wait,
    }
}

impl Election {
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Election {
        Election { leases: Api::namespaced(client, namespace), name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Returns once this process holds the lease.
    pub async fn acquire(&self) {
        let mut seen: Option<Seen> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be read or taken; trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the lease until that fails for too long; then this process must do nothing more.
    pub async fn hold(&self) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < RENEW_DEADLINE {
            tokio::time::sleep(RETRY).await;
            // A request that hangs must not outlast the deadline.
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.renew()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed; trying again"),
                Err(_) => return,
            }
        }
    }

    /// Gives the lease up, so that the next leader need not wait for it to expire.
    pub async fn release(&self) -> Result<(), kube::Error> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        self.leases.replace(&self.name, &PostParams::default(), &lease).await.map(drop)
    }

    async fn try_acquire(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(&self.name).await?;
        if let Some(lease) = &lease {
            let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
            let version = lease.resource_version().unwrap_or_default();
            if seen.as_ref().is_none_or(|seen| seen.version != version) {
                *seen = Some(Seen { holder, version, since: Instant::now() });
            }
        }
        match step(Instant::now(), &self.identity, seen.as_ref().filter(|_| lease.is_some())) {
            Step::Wait => Ok(false),
            Step::Take => self.write(lease).await,
        }
    }

    async fn renew(&self) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(&self.name).await?;
        let holder = lease.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
        if holder != Some(&self.identity) {
            return Ok(false);
        }
        self.write(lease).await
    }

    /// Writes us as the holder. The resource version makes it fail if anybody wrote in between.
    async fn write(&self, lease: Option<Lease>) -> Result<bool, kube::Error> {
        let now = MicroTime(Timestamp::now());
        let old = lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let ours = old.holder_identity.as_deref() == Some(&self.identity);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: old.acquire_time.filter(|_| ours).or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            ..LeaseSpec::default()
        };
        let params = PostParams::default();
        let result = match lease {
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.leases.create(&params, &Lease { metadata, spec: Some(spec) }).await
            }
            Some(lease) => {
                let lease = Lease { metadata: lease.metadata, spec: Some(spec) };
                self.leases.replace(&self.name, &params, &lease).await
            }
        };
        match result {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_when_free_ours_or_seen_unchanged_for_its_duration() {
        let start = Instant::now();
        let seen = |holder: &str| Seen { holder: holder.into(), version: "1".into(), since: start };
        for (holder, after, expected) in [
            (None, 0, Step::Take),
            (Some(""), 0, Step::Take),
            (Some("me"), 0, Step::Take),
            (Some("other"), 0, Step::Wait),
            (Some("other"), 9_999, Step::Wait),
            (Some("other"), 10_000, Step::Take),
        ] {
            let seen = holder.map(seen);
            let now = start + Duration::from_millis(after);
            assert_eq!(step(now, "me", seen.as_ref()), expected, "{holder:?} after {after} ms");
        }
    }

    /// Two candidates, every interleaving of looks a second apart: the second never begins before the first,
    /// whose renewals stop at some instant, has stepped back.
    #[test]
    fn the_old_leader_steps_back_before_the_new_one_begins() {
        let start = Instant::now();
        for last_renewal in 0..30u64 {
            for offset in 0..=RETRY.as_secs() {
                let seen_at = start + Duration::from_secs(last_renewal) + Duration::from_secs(offset);
                let seen = Seen { holder: "old".into(), version: "1".into(), since: seen_at };
                let begins = (0..60)
                    .map(|second| start + Duration::from_secs(second))
                    .find(|now| *now >= seen_at && step(*now, "new", Some(&seen)) == Step::Take)
                    .unwrap();
                let steps_back = start + Duration::from_secs(last_renewal) + RENEW_DEADLINE;
                assert!(steps_back < begins, "renewed at {last_renewal}, seen {offset} later");
            }
        }
    }
}
