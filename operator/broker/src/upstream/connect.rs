//! From a target to addresses that may be connected to, and to a connection.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::resolve::Resolve;
use crate::judge::address::{AddressError, Guard};
use crate::judge::target::{Target, TargetHost};

/// Nothing was sent.
#[derive(Debug)]
pub enum NotConnected {
    Refused(AddressError),
    Unreachable(String),
}

/// Every address of the target; one that must not be reached refuses them all, as a name that resolves to both is a trap.
pub async fn addresses(
    resolver: &dyn Resolve,
    guard: &Guard,
    target: &Target,
    listed: &[String],
) -> Result<Vec<SocketAddr>, NotConnected> {
    let found: Vec<IpAddr> = match &target.host {
        TargetHost::Address(address) => vec![*address],
        TargetHost::Name(name) => {
            let resolved = resolver.resolve(name).await;
            resolved.map_err(|error| NotConnected::Unreachable(format!("{name} cannot be resolved: {error}")))?
        }
    };
    for address in &found {
        guard.check(*address, listed).map_err(NotConnected::Refused)?;
    }
    if found.is_empty() {
        return Err(NotConnected::Unreachable(format!("{} has no address", target.host)));
    }
    Ok(found.into_iter().map(|address| SocketAddr::new(address.to_canonical(), target.port)).collect())
}

/// To the first that answers, each having its share of the time.
pub async fn connect(addresses: &[SocketAddr], within: Duration) -> Result<(TcpStream, SocketAddr), NotConnected> {
    let share = within / u32::try_from(addresses.len().clamp(1, 4)).unwrap_or(1);
    let mut problems = Vec::new();
    let all = async {
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Some((stream, *address)),
                Ok(Err(error)) => problems.push(format!("{address}: {error}")),
                Err(_) => problems.push(format!("{address}: no answer within {} s", share.as_secs_f32())),
            }
        }
        None
    };
    let connected = timeout(within, all).await.ok().flatten();
    let Some((stream, address)) = connected else { return Err(NotConnected::Unreachable(problems.join("; "))) };
    stream.set_nodelay(true).map_err(|error| NotConnected::Unreachable(format!("{address}: {error}")))?;
    Ok((stream, address))
}
