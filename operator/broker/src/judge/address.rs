//! Addresses that a name may resolve to. What is not public by IANA's registries of special-purpose addresses (RFC 6890
//! and its successors) is refused, unless the Skill's egress lists a range that holds it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// What is refused in a cluster although it looks public, such as the ranges of its pods.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    refused: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("{address} is {what}; list a range that holds it under addresses if it is meant")]
    NotPublic { address: IpAddr, what: &'static str },
    #[error(
        "{address} is in {range}, which this cluster refuses; list a range that holds it under addresses if it is meant"
    )]
    RefusedHere { address: IpAddr, range: IpNet },
    #[error("{0:?} under addresses is not an address range; write one such as 10.0.0.0/8")]
    Range(String),
}

impl Guard {
    pub fn new(refused: Vec<IpNet>) -> Guard {
        Guard { refused }
    }

    /// `listed` are the ranges of the egress that the call matched.
    pub fn check(&self, address: IpAddr, listed: &[String]) -> Result<(), AddressError> {
        let forms = forms(address);
        for text in listed {
            let range: IpNet = text.parse().map_err(|_| AddressError::Range(text.clone()))?;
            if forms.iter().any(|form| range.contains(form)) {
                return Ok(());
            }
        }
        for form in &forms {
            if let Some(range) = self.refused.iter().find(|range| range.contains(form)) {
                return Err(AddressError::RefusedHere { address, range: *range });
            }
        }
        match special(address) {
            Some(what) => Err(AddressError::NotPublic { address, what }),
            None => Ok(()),
        }
    }
}

/// The address, and the IPv4 address that it stands for.
fn forms(address: IpAddr) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(_) => vec![address],
        IpAddr::V6(v6) => std::iter::once(address).chain(carried(v6).map(IpAddr::V4)).collect(),
    }
}

/// IPv4-mapped (RFC 4291) and NAT64's well-known prefix (RFC 6052): the packet ends at the IPv4 address.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let [h, i] = high.to_be_bytes();
    let [j, k] = low.to_be_bytes();
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(Ipv4Addr::new(h, i, j, k)),
        _ => None,
    }
}

/// What an address is other than public.
fn special(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => V4.iter().find(|(range, _)| within4(range, v4)).map(|(_, what)| *what),
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => special(v4.into()),
            None => special6(v6),
        },
    }
}

fn special6(address: Ipv6Addr) -> Option<&'static str> {
    let known = V6.iter().find(|(range, _)| within6(range, address)).map(|(_, what)| *what);
    // Nothing else is global unicast today (RFC 4291, and IANA's registry of it).
    known.or_else(|| (!within6("2000::/3", address)).then_some("not of the range of public IPv6 addresses"))
}

fn within4(range: &str, address: Ipv4Addr) -> bool {
    range.parse::<Ipv4Net>().is_ok_and(|range| range.contains(&address))
}

fn within6(range: &str, address: Ipv6Addr) -> bool {
    range.parse::<Ipv6Net>().is_ok_and(|range| range.contains(&address))
}

const V4: [(&str, &str); 17] = [
    ("0.0.0.0/8", "of this network (RFC 791)"),
    ("10.0.0.0/8", "private (RFC 1918)"),
    ("100.64.0.0/10", "of a carrier's own network (RFC 6598)"),
    ("127.0.0.0/8", "loopback (RFC 1122)"),
    ("168.63.129.16/32", "a cloud's own host agent"),
    ("169.254.0.0/16", "link-local, where clouds keep metadata (RFC 3927)"),
    ("172.16.0.0/12", "private (RFC 1918)"),
    ("192.0.0.0/24", "reserved for protocols (RFC 6890)"),
    ("192.0.2.0/24", "for documentation (RFC 5737)"),
    ("192.88.99.0/24", "a 6to4 relay (RFC 7526)"),
    ("192.168.0.0/16", "private (RFC 1918)"),
    ("198.18.0.0/15", "for benchmarks (RFC 2544)"),
    ("198.51.100.0/24", "for documentation (RFC 5737)"),
    ("203.0.113.0/24", "for documentation (RFC 5737)"),
    ("224.0.0.0/4", "multicast (RFC 5771)"),
    ("255.255.255.255/32", "broadcast (RFC 919)"),
    ("240.0.0.0/4", "reserved (RFC 1112)"),
];

const V6: [(&str, &str); 14] = [
    ("::/128", "unspecified (RFC 4291)"),
    ("::1/128", "loopback (RFC 4291)"),
    ("::/96", "an IPv4-compatible address (RFC 4291)"),
    ("64:ff9b:1::/48", "for local translation (RFC 8215)"),
    ("100::/64", "where packets are discarded (RFC 6666)"),
    ("2001::/32", "a Teredo tunnel (RFC 4380)"),
    ("2001::/23", "reserved for protocols (RFC 2928)"),
    ("2001:db8::/32", "for documentation (RFC 3849)"),
    ("2002::/16", "a 6to4 tunnel (RFC 3056)"),
    ("3fff::/20", "for documentation (RFC 9637)"),
    ("fc00::/7", "unique-local (RFC 4193)"),
    ("fe80::/10", "link-local (RFC 4291)"),
    ("fec0::/10", "site-local (RFC 3879)"),
    ("ff00::/8", "multicast (RFC 4291)"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(address: &str, listed: &[&str], refused: &[&str]) -> Result<(), AddressError> {
        let guard = Guard::new(refused.iter().map(|range| range.parse().unwrap()).collect());
        let listed: Vec<String> = listed.iter().map(|range| (*range).to_owned()).collect();
        guard.check(address.parse().unwrap(), &listed)
    }

    #[test]
    fn every_table_can_be_read() {
        assert!(V4.iter().all(|(range, _)| range.parse::<Ipv4Net>().is_ok_and(|net| net.trunc() == net)));
        assert!(V6.iter().all(|(range, _)| range.parse::<Ipv6Net>().is_ok_and(|net| net.trunc() == net)));
    }

    #[test]
    fn what_is_not_public_is_refused_in_every_form() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.0",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:a9fe:a9fe",
            "::ffff:10.0.0.1",
            "::ffff:0.0.0.0",
            "::ffff:0:127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:0:0:1::1",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:2::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:808:808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fdff:ffff::1",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "4000::1",
            "8000::1",
            "e000::1",
        ] {
            let error = check(address, &[], &[]).unwrap_err().to_string();
            assert!(error.contains("under addresses"), "{address}: {error}");
        }
    }

    #[test]
    fn what_is_public_passes() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
        ] {
            assert_eq!(check(address, &[], &[]), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_listed_range_allows_what_it_holds_and_nothing_else() {
        assert_eq!(check("10.1.2.3", &["10.1.0.0/16"], &["10.0.0.0/8"]), Ok(()));
        assert_eq!(check("::ffff:10.1.2.3", &["10.1.0.0/16"], &[]), Ok(()));
        assert_eq!(check("64:ff9b::10.1.2.3", &["10.1.0.0/16"], &[]), Ok(()));
        assert_eq!(check("fd00::1", &["192.168.0.0/16", "fd00::/8"], &[]), Ok(()));
        for (address, listed) in [("10.2.0.0", "10.1.0.0/16"), ("127.0.0.1", "::/0"), ("::1", "0.0.0.0/0")] {
            assert!(check(address, &[listed], &[]).is_err(), "{address}");
        }
        assert_eq!(check("1.1.1.1", &["nonsense"], &[]), Err(AddressError::Range("nonsense".into())));
    }

    #[test]
    fn what_a_cluster_refuses_is_refused_in_every_form() {
        for address in ["44.1.2.3", "::ffff:44.1.2.3", "64:ff9b::44.1.2.3"] {
            let error = check(address, &[], &["44.1.0.0/16"]).unwrap_err();
            assert!(matches!(error, AddressError::RefusedHere { .. }), "{address}: {error}");
        }
        assert_eq!(check("44.2.0.1", &[], &["44.1.0.0/16"]), Ok(()));
    }

    proptest! {
        #[test]
        fn no_disguise_makes_an_address_public(bits: u32) {
            let guard = Guard::default();
            let plain = guard.check(Ipv4Addr::from(bits).into(), &[]).is_ok();
            let low = u128::from(bits);
            let carrying = [0xffff_u128 << 32, 0x64_ff9b_u128 << 96];
            for prefix in carrying {
                prop_assert_eq!(guard.check(Ipv6Addr::from(prefix | low).into(), &[]).is_ok(), plain);
            }
            for prefix in [0, 0x2002_u128 << 112 | low << 80, 0x2001_u128 << 112] {
                prop_assert!(guard.check(Ipv6Addr::from(prefix | low).into(), &[]).is_err());
            }
        }
    }
}
