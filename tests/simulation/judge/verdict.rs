//! When all is over: the ledger, the log and the chain side by side.

use std::collections::BTreeMap;

use tollhouse::ledger::{Delivery, Entry, Limits, State};
use tollhouse::payment::PaymentKey;

use super::Dossier;
use crate::chain::{How, Use};
use crate::plan::Kind;
use crate::world::{World, lock, short};

/// Everything that does not hold.
pub fn verdict(world: &World) -> Vec<String> {
    let disk: BTreeMap<PaymentKey, Entry> = world.whole_disk().into_iter().collect();
    let notes = &mut *lock(&world.notes);
    let mut found = std::mem::take(&mut notes.found);
    for (key, dossier) in &notes.dossiers {
        let spent = dossier.signed.as_ref().and_then(|signed| lock(&world.chain).use_of(signed));
        // A lie about another payment has taken its transaction. Where nobody but a facilitator says that this one moved
        // by it, an alarm says so, and a person decides (S5).
        let robbed = spent.is_some_and(|spent| {
            disk.iter().any(|(other, entry)| {
                let lied = notes.dossiers.get(other).is_some_and(|dossier| dossier.lie.is_some());
                lied && other != key && entry.transaction() == Some(spent.transaction)
            })
        });
        let wrong = judge(world, dossier, disk.get(key), spent, robbed);
        found.extend(wrong.into_iter().map(|what| format!("{}: {what}", short(key))));
    }
    found.extend(shared_transactions(&disk));
    found
}

fn judge(world: &World, dossier: &Dossier, entry: Option<&Entry>, spent: Option<Use>, robbed: bool) -> Vec<String> {
    let mut found = Vec::new();
    if dossier.junk {
        if dossier.called || dossier.forwards > 0 || entry.is_some() {
            found.push("I5: somebody was asked about a payment that fails our own checks".to_owned());
        }
        return found;
    }
    let limits = Limits::default();
    if dossier.unpaid > limits.max_releases {
        found.push(format!("S73: the backend worked {} times for one payment, unpaid", dossier.unpaid));
    }
    if dossier.forwards > limits.max_releases + limits.max_redemptions + 1 {
        found.push(format!("S73: the backend worked {} times for one payment", dossier.forwards));
    }
    if dossier.asks.windows(2).any(|pair| strayed(pair, &dossier.cleared)) {
        found.push("I1: another facilitator was asked while the first might still settle".to_owned());
    }
    if dossier.lie.is_some() {
        return found;
    }
    let moved = spent.filter(|spent| spent.how == How::Paid && spent.asked.is_some());
    if moved.is_some() && !dossier.belied {
        let first = dossier.asks.iter().map(|(_, at)| *at).min();
        let after = |moments: &[u64]| moments.iter().any(|moment| first.is_some_and(|first| first < *moment));
        if after(&dossier.challenged) {
            found.push("I4: offers went out for a payment that was being settled".to_owned());
        }
        if after(&dossier.cleared) {
            found.push("I4: a settlement was declared dead that moved money".to_owned());
        }
    }
    found.extend(end(world, dossier, entry, moved, robbed));
    found
}

/// Whether the second of two questions went elsewhere before the first was known to have come to nothing.
fn strayed(asks: &[(usize, u64)], cleared: &[u64]) -> bool {
    let [(first, asked), (second, again)] = asks else { return false };
    first != second && !cleared.iter().any(|moment| asked < moment && moment < again)
}

/// What the ledger says last, beside what is so.
fn end(world: &World, dossier: &Dossier, entry: Option<&Entry>, moved: Option<Use>, robbed: bool) -> Option<String> {
    let Some(entry) = entry else {
        return moved.map(|_| "I3: money moved and the ledger knows nothing of it".to_owned());
    };
    match &entry.state {
        State::Reserved { .. } | State::Released | State::Exhausted => {
            moved.map(|_| format!("I3: money moved and the ledger says {}", entry.state.name()))
        }
        State::Settling { facilitator, .. } => {
            let kind = place(facilitator).and_then(|place| world.plan.facilitators.get(place));
            let answerable = match kind {
                Some(Kind::Watched | Kind::Local) => true,
                // Only its own success is something a facilitator can tell us.
                Some(Kind::Trusted) | None => moved.is_some(),
            };
            (answerable && !robbed).then(|| format!("liveness: nobody found out about it: {:?}", entry.state))
        }
        State::Settled { delivery, .. } => match delivery {
            Delivery::Done { .. } if !dossier.whole => Some("I3: recorded as delivered, and it was not".to_owned()),
            Delivery::Leased { .. } => Some("liveness: a delivery that nobody makes is still leased".to_owned()),
            Delivery::Pending if entry.due().is_some_and(|due| due.after(SLACK) < world.now()) => {
                Some("liveness: an answer nobody collected is not marked as owed".to_owned())
            }
            Delivery::Pending if dossier.releases.iter().any(|(at, pulse)| !pulse.troubled_since(*at)) => {
                Some("I1: an answer went out and can still be collected".to_owned())
            }
            _ => None,
        },
    }
}

/// How long after its time something may still wait for whoever does it.
const SLACK: std::time::Duration = std::time::Duration::from_secs(20);

fn place(facilitator: &str) -> Option<usize> {
    facilitator.strip_prefix('f')?.parse().ok()
}

/// S5: no two payments rest on one transaction, be it by word or by proof. Beside a word, proof counts.
fn shared_transactions(disk: &BTreeMap<PaymentKey, Entry>) -> Vec<String> {
    let mut owners = BTreeMap::new();
    let mut found = Vec::new();
    for (key, entry) in disk {
        if let State::Settled { receipt, .. } = &entry.state
            && let Some(other) = owners.insert((receipt.transaction, receipt.block.is_some()), key)
        {
            found.push(format!("{} and {}: S5: both rest on one transaction", short(other), short(key)));
        }
    }
    found
}

/// Whether somebody still has to find something out or end something.
pub fn is_quiet(world: &World) -> bool {
    world.whole_disk().iter().all(|(_, entry)| match &entry.state {
        State::Settling { .. } => false,
        State::Settled { delivery: Delivery::Leased { .. }, .. } => false,
        // Whose time is over is to be marked as owed, by a process that may have stood still for a minute.
        State::Settled { delivery: Delivery::Pending, collect_by, .. } => world.now() < *collect_by,
        State::Settled { .. } => true,
        // Whoever declined to settle it may have settled it all the same.
        State::Reserved { .. } | State::Released | State::Exhausted => entry.declined.is_none(),
    })
}
