//! Names to addresses, in this process and in no library that would do it again.

use std::net::IpAddr;

use futures::future::BoxFuture;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

pub trait Resolve: Send + Sync + 'static {
    /// All its addresses.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// As `/etc/resolv.conf` and `/etc/hosts` say.
pub struct System(TokioResolver);

impl System {
    pub fn new() -> Result<System, ResolveError> {
        let failed = |error: &dyn std::fmt::Display| ResolveError(error.to_string());
        let mut builder = TokioResolver::builder_tokio().map_err(|error| failed(&error))?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // A name with a dot is asked for as it is first: a cluster's search list must not come before it.
        options.ndots = 1;
        Ok(System(builder.build().map_err(|error| failed(&error))?))
    }
}

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let found = self.0.lookup_ip(name).await.map_err(|error| ResolveError(error.to_string()))?;
            Ok(found.iter().collect())
        })
    }
}
