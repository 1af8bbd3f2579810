//! What a seed stands for: who takes part, what goes wrong and how often, and which bug is planted.

use crate::chance::Chance;
use crate::mutation::Mutation;

/// Something that goes wrong in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process is gone: every task, every object, every answer it was waiting for.
    Crash,
    /// The process stands still for longer than its leases last.
    Freeze,
    /// The store refuses and has written nothing.
    StoreRefuses,
    /// The store has written and says that it failed.
    StoreLies,
    /// The store takes long; whoever waits may have given up.
    StoreStalls,
    /// The facilitator does not answer a question about a payment.
    VerifyFails,
    /// The facilitator cannot be connected to.
    NotSent,
    /// The request to settle never arrives, and nobody says so.
    RequestLost,
    /// It settles and its answer is lost.
    AnswerLost,
    /// Its answer comes after everybody has stopped waiting.
    AnswerLate,
    /// The request arrives twice.
    SentTwice,
    /// It does what it was asked and answers nonsense.
    Garbled,
    /// It settles and says no, in words that prove nothing.
    NoAfterSettling,
    /// It says that it settled, and nothing is on chain.
    LieSettled,
    /// It names the transaction of another payment.
    LieForeign,
    /// It settles and says, in words that prove it, that it did not.
    LieDeclined,
    /// It says that a payment would settle without looking.
    LieValid,
    /// The node does not answer.
    NodeDown,
    /// The node shows the chain as it was a while ago.
    NodeLags,
    /// The transaction leaves the mempool unmined.
    TransactionDropped,
    /// The transaction is mined late.
    TransactionStuck,
    /// The backend cannot be connected to.
    BackendDown,
    /// The backend answers 500.
    BackendFails,
    /// The backend takes longer than the route allows.
    BackendSlow,
    /// The backend breaks off in the middle of its answer.
    BackendBreaks,
    /// The client closes its side and hears nothing more.
    ClientLeaves,
    /// The client resets the stream: its request is dropped wherever it stands.
    ClientResets,
    /// The payer spends the authorization in another way: cancels it, or submits it.
    PayerSpends,
    /// The payer's money goes elsewhere.
    PayerDrained,
}

impl Fault {
    pub const ALL: [Self; 29] = [
        Self::Crash,
        Self::Freeze,
        Self::StoreRefuses,
        Self::StoreLies,
        Self::StoreStalls,
        Self::VerifyFails,
        Self::NotSent,
        Self::RequestLost,
        Self::AnswerLost,
        Self::AnswerLate,
        Self::SentTwice,
        Self::Garbled,
        Self::NoAfterSettling,
        Self::LieSettled,
        Self::LieForeign,
        Self::LieDeclined,
        Self::LieValid,
        Self::NodeDown,
        Self::NodeLags,
        Self::TransactionDropped,
        Self::TransactionStuck,
        Self::BackendDown,
        Self::BackendFails,
        Self::BackendSlow,
        Self::BackendBreaks,
        Self::ClientLeaves,
        Self::ClientResets,
        Self::PayerSpends,
        Self::PayerDrained,
    ];

    /// The highest rate that still lets something happen, in a thousand steps. A process takes some twenty steps for
    /// one request, a client few.
    const fn most(self) -> u16 {
        match self {
            Self::Crash | Self::Freeze => 40,
            Self::StoreRefuses | Self::StoreLies | Self::StoreStalls => 200,
            _ => 400,
        }
    }
}

/// How far a facilitator is believed, and by what right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Over HTTP, and its word is all there is.
    Trusted,
    /// Over HTTP, and our own node is asked too.
    Watched,
    /// Our own node and key.
    Local,
}

/// One schedule, before it is run.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    pub replicas: usize,
    pub clients: usize,
    /// How many purchases each client makes.
    pub purchases: u64,
    /// The preferred one first.
    pub facilitators: Vec<Kind>,
    /// By replica, in milliseconds: how far its clock is ahead.
    pub skew: Vec<u64>,
    /// Signatures are recovered, not compared. Slow, and beside the point of most runs.
    pub real_signatures: bool,
    /// The price changes while clients hold offers.
    pub price_changes: bool,
    /// Seconds for which an answer that did not arrive may be collected.
    pub redeem_for: u64,
    pub mutation: Option<Mutation>,
    rates: [u16; Fault::ALL.len()],
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let chance = &mut Chance::new(seed ^ 0x746f_6c6c_686f_7573);
        let kinds = [Kind::Trusted, Kind::Watched, Kind::Local];
        let replicas = 1 + chance.below(2) as usize;
        let facilitators = (0..1 + chance.below(2)).map(|_| *chance.pick(&kinds)).collect();
        let mut rates = [0; Fault::ALL.len()];
        // One run in eight is fair weather: then nothing excuses anything. In the others each fault is absent, rare
        // or frequent by itself, so that pairs of frequent ones meet without drowning in the rest.
        if chance.below(8) > 0 {
            for fault in Fault::ALL {
                rates[fault as usize] = match chance.below(8) {
                    0 => fault.most(),
                    1 => fault.most() / 4,
                    2 => fault.most() / 16,
                    _ => 0,
                };
            }
        }
        Self {
            seed,
            replicas,
            clients: 1 + chance.below(2) as usize,
            purchases: 1 + chance.below(3),
            facilitators,
            skew: (0..replicas).map(|_| chance.below(3) * 2_000).collect(),
            real_signatures: chance.below(64) == 0,
            price_changes: chance.below(4) == 0,
            redeem_for: *chance.pick(&[20, 120, 600]),
            mutation: None,
            rates,
        }
    }

    /// The same run with a bug planted.
    pub fn with(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    pub const fn rate(&self, fault: Fault) -> u16 {
        self.rates[fault as usize]
    }

    /// For people: what is frequent here.
    pub fn describe(&self) -> String {
        let faults: Vec<String> = Fault::ALL
            .iter()
            .filter(|fault| self.rate(**fault) > 0)
            .map(|fault| format!("{fault:?} {}‰", self.rate(*fault)))
            .collect();
        format!(
            "seed {}: {} replicas (ahead by {:?} ms), facilitators {:?}, {} clients with {} purchases, redeemed within {} s{}{}{}\n  faults: {}",
            self.seed,
            self.replicas,
            self.skew,
            self.facilitators,
            self.clients,
            self.purchases,
            self.redeem_for,
            if self.real_signatures { ", real signatures" } else { "" },
            if self.price_changes { ", the price changes" } else { "" },
            self.mutation.map(|mutation| format!(", mutation {mutation:?}")).unwrap_or_default(),
            if faults.is_empty() { "none".to_owned() } else { faults.join(", ") },
        )
    }
}
