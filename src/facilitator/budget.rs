//! What keeps the questions of strangers few: facts that hold for a while, and so many a second.

use std::collections::HashMap;
use std::hash::Hash;

use crate::primitives::Timestamp;

/// How many facts of a kind are remembered (I7), where nothing else is said.
const MOST_FACTS: usize = 10_000;

/// Facts that hold for a while; a bounded number of them.
pub(super) struct Recent<K, V> {
    facts: HashMap<K, (V, Timestamp)>,
    most: usize,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self::of(MOST_FACTS)
    }
}

impl<K, V> Recent<K, V> {
    /// No more than this many. They take room only as they come.
    pub(super) fn of(most: usize) -> Self {
        Self { facts: HashMap::new(), most }
    }
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    /// What holds at this moment.
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<&V> {
        self.facts.get(key).filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, key: &K, now: Timestamp) -> Option<&mut V> {
        self.facts.get_mut(key).filter(|(_, until)| now < *until).map(|(value, _)| value)
    }

    /// Remembers it until then.
    pub(super) fn put(&mut self, key: K, value: V, until: Timestamp, now: Timestamp) {
        if self.facts.len() >= self.most && !self.facts.contains_key(&key) {
            self.make_room(now);
        }
        self.facts.insert(key, (value, until));
    }

    /// Holds no longer.
    pub(super) fn forget(&mut self, key: &K) {
        self.facts.remove(key);
    }

    /// What is over goes, and of what still holds any quarter, where that is not enough: looking through all of it takes
    /// long enough not to be done with every fact.
    fn make_room(&mut self, now: Timestamp) {
        self.facts.retain(|_, (_, until)| now < *until);
        let mut stay = self.most - self.most.div_ceil(4);
        self.facts.retain(|_, _| {
            let stays = stay > 0;
            stay = stay.saturating_sub(1);
            stays
        });
    }
}

/// So many at once, and so many a second from then on. Counted in thousandths.
pub(super) struct Bucket {
    burst: u64,
    per_second: u64,
    left: u64,
    at: Timestamp,
}

impl Bucket {
    /// A full one.
    pub(super) fn of(burst: u64, per_second: u64) -> Self {
        Self { burst, per_second, left: burst * 1000, at: Timestamp::EPOCH }
    }

    /// Whether nothing is left to take.
    pub(super) fn is_empty(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        self.left < 1000
    }

    /// Takes one, if one is left.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        let taken = self.left.checked_sub(1000);
        self.left = taken.unwrap_or(self.left);
        taken.is_some()
    }

    fn fill(&mut self, now: Timestamp) {
        let millis = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        self.left = self.left.saturating_add(millis.saturating_mul(self.per_second)).min(self.burst * 1000);
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    #[test]
    fn i7_what_is_remembered_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..2 * MOST_FACTS as u64 {
            recent.put(number, number, at(10), at(0));
            assert!(recent.get(&number, at(0)).is_some(), "the latest stays");
            assert!(recent.facts.len() <= MOST_FACTS);
        }
        assert!(recent.facts.len() > MOST_FACTS / 2, "no more than a part of them goes");
        for number in 0..MOST_FACTS as u64 {
            recent.put(number, number, at(30), at(20));
        }
        assert_eq!(recent.facts.len(), MOST_FACTS, "what is over goes first");
    }
}
