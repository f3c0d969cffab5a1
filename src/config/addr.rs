//! The address of the listener.

/// An address that can be bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Addr {
    /// `host:port`.
    Host,
    /// Only a port, `:8082`, which the predecessor takes for all interfaces.
    AllInterfaces,
}

/// Checks `host:port`. The error says what is wrong.
pub(super) fn check(addr: &str) -> Result<Addr, String> {
    let wrong =
        |why: &str| Err(format!("{addr:?} is no address: {why}; write host:port, for example \"0.0.0.0:8082\""));
    let Some((host, port)) = addr.rsplit_once(':') else { return wrong("the port is missing") };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err() {
        return wrong("the port is no number from 0 to 65535");
    }
    let bracketed = || host.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok();
    if host.contains([':', '[', ']']) && bracketed().is_none() {
        return wrong("an IPv6 address stands in brackets");
    }
    if host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/') {
        return wrong("the host is no name");
    }
    Ok(if host.is_empty() { Addr::AllInterfaces } else { Addr::Host })
}

/// Whether only this machine can reach the address of a listener.
pub(super) fn is_loopback(addr: &str) -> bool {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for addr in ["127.0.0.1:8082", "localhost:0", "[::1]:8082", "[::]:65535", "node-1.cluster:80"] {
            assert_eq!(check(addr), Ok(Addr::Host), "{addr}");
        }
        for addr in [
            "8082",
            "127.0.0.1",
            "localhost:",
            "a:99999",
            "a:+1",
            "::1:8082",
            "http://a:80",
            "a b:80",
            "[]:80",
            "[::1:80",
        ] {
            assert!(check(addr).is_err(), "{addr}");
        }
    }

    #[test]
    fn this_machine_alone_reaches_loopback() {
        for (addr, is_loopback_addr) in [
            ("127.0.0.1:80", true),
            ("127.9.9.9:80", true),
            ("[::1]:80", true),
            ("localhost:80", true),
            ("0.0.0.0:80", false),
            ("[::]:80", false),
            ("10.0.0.1:80", false),
            ("node.cluster:80", false),
        ] {
            assert_eq!(is_loopback(addr), is_loopback_addr, "{addr}");
        }
    }

    #[test]
    fn a_port_alone_means_all_interfaces() {
        assert_eq!(check(":8082"), Ok(Addr::AllInterfaces));
    }
}
