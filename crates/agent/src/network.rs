//! Whether this host has a network, and what a check says of the way to the server.

use std::io::Read as _;
use std::path::Path;

use livepatch_api::daemon::Reachability;

use crate::Problem;
use crate::mirrors::is_the_servers_fault;
use crate::not_covered::NOT_COVERED;

/// A default route is among the first of a table; a host with more routes than these is a router, and has a network.
const MAX_TABLE_BYTES: u64 = 1 << 20;

/// The network of this host, as far as its routes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// There is a default route, or nobody knows.
    Up,
    /// There is none, neither of IPv4 nor of IPv6.
    Down,
}

impl Network {
    /// Reads the tables `route` and `ipv6_route` (proc(5)) in `/proc/net`.
    pub(crate) fn read(directory: &Path) -> Self {
        let [v4, v6] = ["route", "ipv6_route"].map(|name| table(&directory.join(name)));
        // Without IPv6 there is no second table. Without the first one nothing is known.
        match (v4, v6) {
            (Some(v4), v6) => Self::of(&v4, &v6.unwrap_or_default()),
            (None, _) => Self::Up,
        }
    }

    fn of(v4: &str, v6: &str) -> Self {
        let whole = v4.len().max(v6.len()) < MAX_TABLE_BYTES as usize;
        let default = v4.lines().any(is_default_v4) || v6.lines().any(is_default_v6);
        if whole && !default { Self::Down } else { Self::Up }
    }
}

fn table(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_TABLE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A route that is up and refuses nothing: RTF_UP and RTF_REJECT (linux/route.h).
fn leads(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & 0x1 != 0 && flags & 0x200 == 0)
}

/// Columns of `/proc/net/route`: interface, destination, gateway, flags, …, the eighth is the mask.
fn is_default_v4(line: &str) -> bool {
    let columns: Vec<&str> = line.split_whitespace().collect();
    match columns[..] {
        [interface, "00000000", _, flags, _, _, _, "00000000", ..] => interface != "lo" && leads(flags),
        _ => false,
    }
}

/// Columns of `/proc/net/ipv6_route`: destination and its length, source and its length, next hop, metric, two counts,
/// flags, interface.
fn is_default_v6(line: &str) -> bool {
    let columns: Vec<&str> = line.split_whitespace().collect();
    match columns[..] {
        [destination, "00", _, _, _, _, _, _, flags, interface] => {
            destination.bytes().all(|digit| digit == b'0') && interface != "lo" && leads(flags)
        }
        _ => false,
    }
}

/// What a check says of the way to the server; none: it did not get so far.
///
/// A server that does not answer while there is no network is no failure: the network is not up yet, as in each boot.
pub(crate) fn reachability(
    checked: Result<(), &Problem>,
    network: impl FnOnce() -> Network,
) -> Option<Reachability> {
    match checked {
        Err(problem) if problem.code == "server-unreachable" => Some(match network() {
            Network::Up => Reachability::Unreachable,
            Network::Down => Reachability::Pending,
        }),
        Err(problem) if problem.code != NOT_COVERED && !is_the_servers_fault(problem) => None,
        _ => Some(Reachability::Reached),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
    const LINK: &str = "eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
    const DEFAULT: &str = "eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    const REJECTED: &str = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n";
    const ZERO: &str = "00000000000000000000000000000000";

    fn v6(destination: &str, length: &str, flags: &str, interface: &str) -> String {
        format!("{destination} {length} {ZERO} 00 {ZERO} 00000400 00000001 00000000 {flags} {interface:>8}\n")
    }

    #[test]
    fn a_default_route_is_a_network() {
        let link_local = v6("fe800000000000000000000000000000", "40", "00000001", "eth0");
        let loopback = v6(ZERO, "00", "00200200", "lo");
        let default = v6(ZERO, "00", "00000003", "eth0");
        let many = LINK.repeat(MAX_TABLE_BYTES as usize / LINK.len() + 1);
        for (v4, v6, expected) in [
            (String::new(), String::new(), Network::Down),
            (HEAD.into(), loopback.clone(), Network::Down),
            (format!("{HEAD}{LINK}"), link_local.clone() + &loopback, Network::Down),
            (format!("{HEAD}{REJECTED}"), String::new(), Network::Down),
            (format!("{HEAD}{LINK}{DEFAULT}"), loopback.clone(), Network::Up),
            (HEAD.into(), link_local + &default + &loopback, Network::Up),
            (many, String::new(), Network::Up),
            ("\u{fffd} 00000000 x\n\n00".into(), "00 00 00".into(), Network::Down),
        ] {
            assert_eq!(Network::of(&v4, &v6), expected, "{v6}");
        }
    }

    #[test]
    fn without_tables_nothing_is_said_against_the_network() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Network::read(directory.path()), Network::Up);
        std::fs::write(directory.path().join("route"), HEAD).unwrap();
        assert_eq!(Network::read(directory.path()), Network::Down);
        std::fs::write(directory.path().join("ipv6_route"), v6(ZERO, "00", "00000003", "eth0")).unwrap();
        assert_eq!(Network::read(directory.path()), Network::Up);
    }

    #[test]
    fn what_a_check_says_of_the_way() {
        use Reachability::*;
        for (code, up, down) in [
            (None, Some(Reached), Some(Reached)),
            (Some("kernel-not-covered"), Some(Reached), Some(Reached)),
            (Some("server-unreachable"), Some(Unreachable), Some(Pending)),
            // Somebody answered, a portal perhaps: there is a network, whatever the routes are.
            (Some("server-failed"), Some(Reached), Some(Reached)),
            (Some("document-malformed"), Some(Reached), Some(Reached)),
            (Some("loader-unreachable"), None, None),
            (Some("tls-setup"), None, None),
        ] {
            let problem = code.map(|code| Problem::new(code, "x", ""));
            let checked = || problem.as_ref().map_or(Ok(()), Err);
            assert_eq!(reachability(checked(), || Network::Up), up, "{code:?}");
            assert_eq!(reachability(checked(), || Network::Down), down, "{code:?}");
        }
    }
}
