//! How many connections each client has open: one client must not take the room of all (S56).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::PerClient;
use crate::gate::rails::subscriber;

/// The most that one client gets unless the file says otherwise: many people may share an address.
const MOST_PER_CLIENT: u32 = 1024;
/// The part of the room that one client gets unless the file says otherwise.
const SHARE: u32 = 4;

/// Everybody who has a connection open. There are no more of them than connections, so this is as large as they are many.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// What one client gets of the room there is, where the file does not say.
    built_in: u32,
    inside: Mutex<Inside>,
}

#[derive(Debug)]
struct Inside {
    cap: PerClient,
    open: HashMap<IpAddr, u32>,
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    client: IpAddr,
}

impl Crowd {
    /// Nobody yet, and room for this many.
    pub(crate) fn within(room: usize, cap: PerClient) -> Self {
        let share = u32::try_from(room).unwrap_or(u32::MAX) / SHARE;
        let inside = Inside { cap, open: HashMap::new() };
        Self { built_in: share.clamp(1, MOST_PER_CLIENT), inside: Mutex::new(inside) }
    }

    /// Another cap holds from now on. Who has more open keeps it.
    pub(crate) fn cap(&self, cap: PerClient) {
        self.inside().cap = cap;
    }

    /// Counts a connection of this client; `None` if it has enough.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = subscriber(client);
        let mut inside = self.inside();
        let most = match inside.cap {
            PerClient::Any => u32::MAX,
            PerClient::Most(most) => most.get(),
            // Whoever is on this machine is a proxy beside us or the operator, and shares its fate with us.
            PerClient::BuiltIn if client.is_loopback() => u32::MAX,
            PerClient::BuiltIn => self.built_in,
        };
        let open = inside.open.entry(client).or_insert(0);
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Place { crowd: Arc::clone(self), client })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // A panic in between leaves a count that is right.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// One more for the same client; `None` if it has enough.
    pub(super) fn another(&self) -> Option<Self> {
        self.crowd.enter(self.client)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.crowd.inside().open.entry(self.client) {
            match open.get().checked_sub(1).and_then(NonZeroU32::new) {
                None => drop(open.remove()),
                Some(left) => *open.get_mut() = left.get(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(room: usize, cap: PerClient) -> Arc<Crowd> {
        Arc::new(Crowd::within(room, cap))
    }

    fn most(number: u32) -> PerClient {
        PerClient::Most(NonZeroU32::new(number).expect("not zero"))
    }

    fn client(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// As many connections as this client gets, of the first thousands.
    fn fill(crowd: &Arc<Crowd>, from: &str) -> Vec<Place> {
        (0..5000).map_while(|_| crowd.enter(client(from))).collect()
    }

    #[test]
    fn s56_a_client_has_so_many_connections_and_another_one_as_many() {
        let crowd = crowd(100, most(3));
        let mut open = fill(&crowd, "203.0.113.9");
        assert_eq!(open.len(), 3);
        assert_eq!(fill(&crowd, "203.0.113.10").len(), 3);
        open.pop();
        assert!(crowd.enter(client("203.0.113.9")).is_some(), "one that is closed makes room");
    }

    #[test]
    fn s56_a_client_of_ipv6_has_a_whole_network_and_is_one() {
        let crowd = crowd(100, most(2));
        let _first = crowd.enter(client("2001:db8::1")).expect("there is room");
        let _second = crowd.enter(client("2001:db8::ffff:2")).expect("there is room");
        assert!(crowd.enter(client("2001:db8::3")).is_none());
        assert!(crowd.enter(client("2001:db8:0:1::1")).is_some());
        let _mapped = fill(&crowd, "::ffff:203.0.113.9");
        assert!(crowd.enter(client("203.0.113.9")).is_none(), "an address in the clothes of IPv6 is the same client");
    }

    #[test]
    fn s56_unless_the_file_says_otherwise_a_client_gets_a_share_of_the_room() {
        assert_eq!(fill(&crowd(16_384, PerClient::BuiltIn), "203.0.113.9").len(), 1024);
        assert_eq!(fill(&crowd(480, PerClient::BuiltIn), "203.0.113.9").len(), 120);
        assert_eq!(fill(&crowd(1, PerClient::BuiltIn), "203.0.113.9").len(), 1);
        assert_eq!(fill(&crowd(480, PerClient::BuiltIn), "127.0.0.1").len(), 5000, "this machine is not held back");
        assert_eq!(fill(&crowd(480, most(7)), "127.0.0.1").len(), 7, "unless the file says so");
        assert_eq!(fill(&crowd(480, PerClient::Any), "203.0.113.9").len(), 5000);
    }

    #[test]
    fn who_has_left_is_forgotten_and_a_new_cap_counts_who_is_here() {
        let crowd = crowd(100, PerClient::Any);
        let open = fill(&crowd, "203.0.113.9");
        crowd.cap(most(2));
        assert!(crowd.enter(client("203.0.113.9")).is_none());
        drop(open);
        assert!(crowd.inside().open.is_empty());
        assert_eq!(fill(&crowd, "203.0.113.9").len(), 2);
    }
}
