//! Names to addresses, in this process and in no library that would do it again.

use std::net::IpAddr;

use futures::future::BoxFuture;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

pub trait Resolve: Send + Sync + 'static {
    /// All its addresses.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>>;
}

/// As `/etc/hosts` says, and for what that does not know `/etc/resolv.conf`.
pub struct System {
    hosts: Hosts,
    servers: TokioResolver,
}

impl System {
    pub fn new() -> Result<System, ResolveError> {
        let failed = |error: &dyn std::fmt::Display| ResolveError(error.to_string());
        let mut builder = TokioResolver::builder_tokio().map_err(|error| failed(&error))?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Never;
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // A name with a dot is asked for as it is first: a cluster's search list must not come before it.
        options.ndots = 1;
        let hosts = Hosts::from_system().map_err(|error| failed(&error))?;
        Ok(System { hosts, servers: builder.build().map_err(|error| failed(&error))? })
    }
}

/// What the file says is all there is: no server is asked for the other family, as none is by a C library.
fn on_file(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(name) else { return Vec::new() };
    let of = |family| hosts.lookup_static_host(&Query::query(name.clone(), family));
    let found = [RecordType::A, RecordType::AAAA].into_iter().filter_map(of);
    let records = found.flat_map(|found| found.answers().to_vec());
    records.filter_map(|record| record.data.ip_addr()).collect()
}

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let on_file = on_file(&self.hosts, name);
            if !on_file.is_empty() {
                return Ok(on_file);
            }
            let found = self.servers.lookup_ip(name).await.map_err(|error| ResolveError(error.to_string()))?;
            Ok(found.iter().collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_on_file_has_the_addresses_that_stand_there_and_no_others() {
        let mut hosts = Hosts::default();
        let file = "10.0.0.7 chain.example hooks.example\n2001:db8::7 hooks.example\n";
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        let expected: [(&str, &[&str]); 3] =
            [("chain.example", &["10.0.0.7"]), ("hooks.example", &["10.0.0.7", "2001:db8::7"]), ("other.example", &[])];
        for (name, addresses) in expected {
            let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(on_file(&hosts, name), addresses, "{name}");
        }
    }
}
