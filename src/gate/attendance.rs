//! Who still waits for what their payment buys.
//!
//! A client that gave up is likely to try again, and a stock client then signs a fresh payment. While the earlier one
//! may still be charged, the fresh one must not be (I4); but two clients that both wait are two purchases.

use std::fmt;
use std::sync::Arc;

use alloy::primitives::B256;
use dashmap::DashMap;

use crate::payment::PaymentKey;
use crate::primitives::Payer;

/// What a request came on.
pub trait Connection: fmt::Debug + Send + Sync {
    /// Whether the client has closed its side.
    fn has_left(&self) -> bool;

    /// What tells it from others, where it carries several requests at once: it stays when one of them is given up, which
    /// nobody hears of.
    fn shared_as(&self) -> Option<usize> {
        None
    }
}

/// A payer and a digest of the identical request.
type Errand = (Payer, B256);

/// The paid requests of this process that are not over.
#[derive(Debug, Default)]
pub(super) struct Attendance(DashMap<Errand, Vec<Attended>>);

#[derive(Debug)]
struct Attended {
    key: PaymentKey,
    connection: Option<Arc<dyn Connection>>,
}

/// A paid request that is not over. It is when this is dropped.
#[derive(Debug)]
pub(super) struct Attending {
    attendance: Arc<Attendance>,
    errand: Errand,
    key: PaymentKey,
    connection: Option<Arc<dyn Connection>>,
}

impl Attendance {
    /// A request begins under this payment.
    pub(super) fn begin(
        self: &Arc<Self>,
        errand: Errand,
        key: PaymentKey,
        connection: Option<Arc<dyn Connection>>,
    ) -> Arc<Attending> {
        self.0.entry(errand).or_default().push(Attended { key, connection: connection.clone() });
        Arc::new(Attending { attendance: Arc::clone(self), errand, key, connection })
    }

    /// Whether an identical request of this payer, under another payment, is being served for nobody. Of two on one connection
    /// that carries several, the first is taken for given up: a client that wants the same twice hears that it has to
    /// wait, and one that tries again is not charged twice.
    pub(super) fn was_abandoned(&self, errand: Errand, key: PaymentKey, on: Option<&Arc<dyn Connection>>) -> bool {
        let shared = on.and_then(|connection| connection.shared_as());
        let is_given_up = |connection: &Arc<dyn Connection>| {
            (shared.is_some() && connection.shared_as() == shared) || connection.has_left()
        };
        self.0.get(&errand).is_some_and(|requests| {
            requests.iter().any(|request| request.key != key && request.connection.as_ref().is_some_and(is_given_up))
        })
    }
}

impl Attending {
    /// Whether its client has left. A system call.
    pub(super) fn has_left(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.has_left())
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        self.attendance.0.remove_if_mut(&self.errand, |_, requests| {
            if let Some(at) = requests.iter().position(|request| request.key == self.key) {
                requests.swap_remove(at);
            }
            requests.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug, Default)]
    struct Caller(AtomicBool);

    impl Connection for Caller {
        fn has_left(&self) -> bool {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// One of several requests on the same connection.
    #[derive(Debug)]
    struct Stream;

    impl Connection for Stream {
        fn has_left(&self) -> bool {
            false
        }

        fn shared_as(&self) -> Option<usize> {
            Some(7)
        }
    }

    #[test]
    fn i4_of_two_on_a_shared_connection_the_first_is_taken_for_given_up() {
        let attendance = Arc::new(Attendance::default());
        let errand = (Payer(Default::default()), B256::repeat_byte(1));
        let stream: Arc<dyn Connection> = Arc::new(Stream);
        let other: Arc<dyn Connection> = Arc::new(Caller::default());
        let _waiting = attendance.begin(errand, key(1), Some(Arc::clone(&stream)));
        assert!(attendance.was_abandoned(errand, key(2), Some(&stream)));
        assert!(!attendance.was_abandoned(errand, key(1), Some(&stream)), "it is the same payment");
        assert!(!attendance.was_abandoned(errand, key(2), Some(&other)), "somebody else's");
        assert!(!attendance.was_abandoned(errand, key(2), None));
    }

    fn key(number: u8) -> PaymentKey {
        PaymentKey::from_bytes([number; 32])
    }

    #[test]
    fn a_request_is_abandoned_once_its_client_has_left_and_until_it_is_over() {
        let (attendance, caller) = (Arc::new(Attendance::default()), Arc::new(Caller::default()));
        let errand = (Payer(Default::default()), B256::repeat_byte(1));
        let other = (errand.0, B256::repeat_byte(2));
        let attending = attendance.begin(errand, key(1), Some(caller.clone()));
        let waiting = attendance.begin(errand, key(2), Some(Arc::new(Caller::default())));
        assert!(!attendance.was_abandoned(errand, key(3), None), "both wait");
        caller.0.store(true, Ordering::Relaxed);
        assert!(attendance.was_abandoned(errand, key(3), None));
        assert!(attending.has_left() && !waiting.has_left());
        assert!(!attendance.was_abandoned(errand, key(1), None), "it is the very payment that was left");
        assert!(!attendance.was_abandoned(other, key(3), None), "another request");
        drop(attending);
        assert!(!attendance.was_abandoned(errand, key(3), None), "it is over");
        drop(waiting);
        assert!(attendance.0.is_empty());
    }
}
