//! Bugs that are planted in the parts around the gate and the ledger, to see that the simulation notices.

/// A planted bug, and which promise it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The store writes whatever version was expected (its one duty).
    StoreIgnoresVersions,
    /// The store says *written* before anything is, and a crash loses it (S21).
    StoreForgets,
    /// The store does not keep claims, so two payments rest on one transaction (S5).
    StoreIgnoresClaims,
    /// A lost answer of the facilitator is taken for a no (S13).
    LostIsDeclined,
    /// A question that nobody could answer is taken for *not settled* (S14).
    CannotTellIsNever,
    /// The facilitator's word is taken where our own node should be asked (S16).
    WordIsTaken,
    /// The facilitator's refusal is taken where our own node should be asked, then and later (S16).
    NoIsTaken,
    /// What had been sent is reported as never sent (S13).
    SentIsNotSent,
    /// After an unknown outcome another facilitator is asked to settle (S61).
    AnotherIsAsked,
    /// An unused authorization is taken for dead before its time is over (S28).
    LapsesEarly,
    /// The answer goes out before it is settled (S11).
    AnswersFirst,
    /// The backend is asked before `before_forward` has settled.
    ForwardsFirst,
    /// A delivery is recorded that did not happen (I3).
    DeliversNothing,
    /// Bytes go out unrecorded, so a client that breaks off gets the answer again (S74).
    TouchesNothing,
    /// A payment nobody knows the end of is answered with new offers (I4).
    InvitesAgain,
    /// Signatures are not checked (S4).
    AnySignature,
    /// Nobody reconciles.
    NeverReconciles,
    /// Nobody tends the ledger.
    NeverTends,
    /// A release is not counted, so one payment makes the backend work for ever (S73).
    ForwardsUncounted,
}

impl Mutation {
    pub const ALL: [Self; 19] = [
        Self::StoreIgnoresVersions,
        Self::StoreForgets,
        Self::StoreIgnoresClaims,
        Self::LostIsDeclined,
        Self::CannotTellIsNever,
        Self::WordIsTaken,
        Self::NoIsTaken,
        Self::SentIsNotSent,
        Self::AnotherIsAsked,
        Self::LapsesEarly,
        Self::AnswersFirst,
        Self::ForwardsFirst,
        Self::DeliversNothing,
        Self::TouchesNothing,
        Self::InvitesAgain,
        Self::AnySignature,
        Self::NeverReconciles,
        Self::NeverTends,
        Self::ForwardsUncounted,
    ];
}
