//! How the nodes of a chain are doing: who answers, who serves the right chain, who is behind (S27), and whether our
//! clock agrees with theirs (S29).

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::node::RpcError;
use super::{Block, Chain};
use crate::primitives::Timestamp;

/// How far the head of a node may be behind the best one before it is asked last. Above the block time of every chain
/// of the presets.
const BEHIND: Duration = Duration::from_secs(15);
/// How far our clock and the chain's may be apart before somebody should look (S29).
const SKEW: Duration = Duration::from_secs(30);
/// Block times are whole seconds and blocks are some seconds apart, so a head is never of this moment.
const USUAL_AGE: Duration = Duration::from_secs(30);

/// How a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Whether it gave an answer when it was last asked, and for the right chain.
    pub up: bool,
    /// How far its head was behind the best one's.
    pub behind: Duration,
}

/// How a chain's clock compares with ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clocks {
    Agree,
    /// The head is from our future, so our clock is slow.
    OursIsSlow(Duration),
    /// The head is old: the chain stands still, or our clock is fast.
    HeadIsOld(Duration),
}

impl Chain {
    /// Asks every node for its head, whether or not anybody else asks anything. One that is down is tried again here.
    pub async fn survey(&self) {
        // How old each head was when it was read. Comparing ages leaves out both our clock's error and the time that
        // a slow node took.
        let mut ages = Vec::with_capacity(self.nodes.len());
        let mut latest = None;
        for (index, node) in self.nodes.iter().enumerate() {
            let was_up = node.is_up();
            let head = node.call::<Block>("eth_getBlockByNumber", serde_json::json!(["latest", false])).await;
            self.tell(index, was_up, head.as_ref().err());
            ages.push(head.ok().map(|head| {
                latest = latest.max(Some(head.time()));
                Age::of(head.time(), self.clock.now())
            }));
        }
        let Some(least) = ages.iter().flatten().min().copied() else { return };
        for (index, (node, age)) in self.nodes.iter().zip(&ages).enumerate() {
            let Some(age) = age else { continue };
            let behind = Duration::from_millis(age.0.abs_diff(least.0));
            let before = Duration::from_millis(node.behind.swap(millis(behind), Ordering::Relaxed));
            if behind >= BEHIND && before < BEHIND {
                tracing::warn!(network = %self.network, node = index + 1, ?behind, "a node is behind; it is asked last");
            }
        }
        if let Some(latest) = latest {
            self.head_seen.store(latest.as_millis(), Ordering::Relaxed);
        }
        self.compare_clocks(least);
    }

    /// How each node is doing, in the order of the configuration.
    pub fn health(&self) -> Vec<Health> {
        let health = |node: &super::Node| Health { up: node.is_up(), behind: behind(node) };
        self.nodes.iter().map(health).collect()
    }

    /// By how much the head was from another time than our clock showed, when it was last read. Zero while they agree
    /// as well as can be told.
    pub fn skew(&self) -> Duration {
        Duration::from_millis(self.skew.load(Ordering::Relaxed))
    }

    /// The later of our time and the chain's: what has lapsed by either is not sent (S28, S29).
    pub(in crate::facilitator) fn now(&self) -> Timestamp {
        self.clock.now().max(Timestamp::from_millis(self.head_seen.load(Ordering::Relaxed)))
    }

    /// The place of a node in the order of preference.
    pub(super) fn rank(node: &super::Node) -> (bool, bool) {
        (!node.is_up(), behind(node) >= BEHIND)
    }

    /// A node has no name but its place: its address may hold a key.
    fn tell(&self, index: usize, was_up: bool, error: Option<&RpcError>) {
        let (network, node) = (&self.network, index + 1);
        match (was_up, error) {
            (true, Some(error @ RpcError::WrongChain { .. })) => {
                tracing::error!(%network, node, %error, "a node is not asked any more")
            }
            (true, Some(error)) => tracing::warn!(%network, node, %error, "a node does not answer"),
            (false, None) => tracing::info!(%network, node, "a node answers again"),
            (true, None) | (false, Some(_)) => {}
        }
    }

    fn compare_clocks(&self, least: Age) {
        let clocks = least.compared();
        let skew = match clocks {
            Clocks::Agree => Duration::ZERO,
            Clocks::OursIsSlow(by) | Clocks::HeadIsOld(by) => by,
        };
        let before = self.skew.swap(millis(skew), Ordering::Relaxed);
        match clocks {
            Clocks::OursIsSlow(by) if before == 0 => {
                tracing::error!(network = %self.network, ?by, "the clock of this machine is slow");
            }
            Clocks::HeadIsOld(by) if before == 0 => tracing::error!(
                network = %self.network, ?by, "the latest block is old: the chain stands still, or the clock of this machine is fast"
            ),
            Clocks::Agree if before != 0 => tracing::info!(network = %self.network, "clock and chain agree again"),
            _ => {}
        }
    }
}

/// The age of a head in milliseconds, by our clock; below zero when it is from our future.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Age(i64);

impl Age {
    fn of(head: Timestamp, now: Timestamp) -> Self {
        let signed = |moment: Timestamp| i64::try_from(moment.as_millis()).unwrap_or(i64::MAX);
        Self(signed(now).saturating_sub(signed(head)))
    }

    fn compared(self) -> Clocks {
        let by = Duration::from_millis(self.0.unsigned_abs());
        match self.0 {
            ..0 if by > SKEW => Clocks::OursIsSlow(by),
            0.. if by > SKEW + USUAL_AGE => Clocks::HeadIsOld(by),
            _ => Clocks::Agree,
        }
    }
}

fn behind(node: &super::Node) -> Duration {
    Duration::from_millis(node.behind.load(Ordering::Relaxed))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s29_half_a_minute_is_nothing_and_more_is_an_alarm() {
        let age = |head, now| Age::of(Timestamp::from_secs(head), Timestamp::from_secs(now)).compared();
        assert_eq!(age(1_000, 1_012), Clocks::Agree);
        assert_eq!(age(1_030, 1_000), Clocks::Agree);
        assert_eq!(age(1_031, 1_000), Clocks::OursIsSlow(Duration::from_secs(31)));
        assert_eq!(age(1_000, 1_060), Clocks::Agree);
        assert_eq!(age(1_000, 1_061), Clocks::HeadIsOld(Duration::from_secs(61)));
    }
}
