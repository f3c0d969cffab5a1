//! What one peer may have at one time: connections, and requests a second.
//!
//! A peer is an IPv4 address, or the network of 64 bits that an IPv6 address is of: whoever has one address of it has
//! them all. Owns the table of those that are connected, or were a moment ago; it is bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Peers without a connection that are remembered, because they have used up their requests, at most.
const REMEMBERED: usize = 1 << 16;

/// How long a request waits for its turn instead of being refused.
const PATIENCE: Duration = Duration::from_secs(1);

/// All peers.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<IpAddr, Usage>>);

#[derive(Debug)]
struct Usage {
    connections: usize,
    /// When all requests so far are paid for: one costs a second divided by the rate. More than a second ago is as
    /// good as a second.
    paid: Instant,
}

/// One connection of a peer; the others are told when it is dropped.
#[derive(Debug)]
pub(super) struct Connected {
    peers: Arc<Peers>,
    peer: IpAddr,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut peers = self.peers.lock();
        let Some(usage) = peers.get_mut(&self.peer) else { return };
        usage.connections -= 1;
        if usage.connections == 0 && usage.paid <= Instant::now() {
            peers.remove(&self.peer);
        }
    }
}

impl Peers {
    /// Counts a connection; `None` if the peer has `limit` already.
    pub(super) fn connect(self: &Arc<Self>, address: IpAddr, limit: usize) -> Option<Connected> {
        let peer = network(address);
        let mut peers = self.lock();
        if peers.len() >= REMEMBERED {
            peers.retain(|_, usage| usage.connections > 0);
        }
        let usage = peers.entry(peer).or_insert_with(|| Usage { connections: 0, paid: Instant::now() });
        if usage.connections >= limit {
            return None;
        }
        usage.connections += 1;
        Some(Connected { peers: Arc::clone(self), peer })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Usage>> {
        // A count is whole between any two of its changes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    /// Counts a request, of which the peer may send `rate` a second, and as many at once after a silence. Tells how
    /// long it has to wait; the error, how long until it would not be refused.
    pub(super) fn request(&self, rate: u32) -> Result<Duration, Duration> {
        if rate == 0 {
            return Ok(Duration::ZERO);
        }
        let mut peers = self.peers.lock();
        let Some(usage) = peers.get_mut(&self.peer) else { return Ok(Duration::ZERO) };
        let now = Instant::now();
        let least = now.checked_sub(Duration::from_secs(1)).unwrap_or(now);
        let paid = usage.paid.max(least) + Duration::from_secs(1) / rate;
        let wait = paid.saturating_duration_since(now);
        if let Some(retry) = wait.checked_sub(PATIENCE).filter(|retry| !retry.is_zero()) {
            return Err(retry);
        }
        usage.paid = paid;
        Ok(wait)
    }
}

/// What counts as one peer.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    #[tokio::test(start_paused = true)]
    async fn connections_are_counted_by_peer() {
        let peers = Arc::new(Peers::default());
        let held: Vec<_> = (0..2).map(|_| peers.connect(ONE, 2).unwrap()).collect();
        assert!(peers.connect(ONE, 2).is_none());
        assert!(peers.connect("10.0.0.2".parse().unwrap(), 2).is_some());
        drop(held);
        assert!(peers.lock().is_empty());
        assert!(peers.connect(ONE, 2).is_some());
    }

    #[test]
    fn a_network_of_64_bits_is_one_peer() {
        let network = |text: &str| network(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:10.0.0.1"), ONE);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_slowed_down_and_then_refused() {
        let peers = Arc::new(Peers::default());
        let connected = peers.connect(ONE, 1).unwrap();
        tokio::time::advance(Duration::from_secs(10)).await;
        // A second's worth at once, another one that waits, and no more.
        for number in 1..=20_u32 {
            let wait = connected.request(10).unwrap();
            assert_eq!(wait, Duration::from_millis(100) * number.saturating_sub(10), "{number}");
        }
        let retry = connected.request(10).unwrap_err();
        assert_eq!(retry, Duration::from_millis(100));
        tokio::time::advance(retry).await;
        assert!(connected.request(10).is_ok());
        assert_eq!(connected.request(0), Ok(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_pays_for_what_the_last_one_used() {
        let peers = Arc::new(Peers::default());
        let first = peers.connect(ONE, 1).unwrap();
        while first.request(10).is_ok() {}
        drop(first);
        assert!(peers.connect(ONE, 1).unwrap().request(10).is_err());
        tokio::time::advance(Duration::from_secs(5)).await;
        drop(peers.connect(ONE, 1));
        assert!(peers.lock().is_empty());
    }
}
