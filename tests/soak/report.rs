//! What came of it, for people.

use std::fmt;
use std::time::Duration;

use crate::gauges::Gauges;
use crate::traffic::Tally;
use crate::world::Settled;

pub struct Report {
    pub length: Duration,
    pub tally: Tally,
    /// How often each fault was brought about.
    pub broken: Vec<(&'static str, u32)>,
    pub settled: Settled,
    /// Before anybody came, and after everybody had left.
    pub idle: Gauges,
    pub watched: Vec<Gauges>,
    pub after: Gauges,
}

impl Report {
    /// By how many bytes the last quarter's usual size is above the second quarter's: the first fills pools and caches.
    pub fn growth(&self) -> u64 {
        let quarter = self.watched.len() / 4;
        let usual = |looks: &[Gauges]| {
            let mut sizes: Vec<u64> = looks.iter().map(|look| look.resident).collect();
            sizes.sort_unstable();
            sizes.get(sizes.len() / 2).copied().unwrap_or_default()
        };
        usual(&self.watched[3 * quarter..]).saturating_sub(usual(&self.watched[quarter..2 * quarter]))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "soak: {:?}", self.length)?;
        for (kind, (served, refused, broken)) in self.tally.by_kind() {
            writeln!(f, "  {kind:<10} {served:>8} served {refused:>8} refused {broken:>8} broken off")?;
        }
        for (fault, times) in &self.broken {
            writeln!(f, "  {times:>3} x {fault}")?;
        }
        let Settled { moved, in_ledger, open, undelivered } = self.settled;
        writeln!(
            f,
            "  payments: {moved} moved, {in_ledger} in the ledger, {undelivered} to be collected, {open} unknown"
        )?;
        let most = |of: fn(&Gauges) -> u64| self.watched.iter().map(of).max().unwrap_or_default();
        let mib = |bytes: u64| bytes >> 20;
        writeln!(
            f,
            "  memory: {} MiB idle, {} at most, {} after; grew by {} KiB while it ran",
            mib(self.idle.resident),
            mib(most(|look| look.resident)),
            mib(self.after.resident),
            self.growth() >> 10
        )?;
        let descriptors = [self.idle.descriptors, most(|look| look.descriptors), self.after.descriptors];
        writeln!(f, "  descriptors: {} idle, {} at most, {} after", descriptors[0], descriptors[1], descriptors[2])
    }
}
