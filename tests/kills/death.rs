//! Where a gateway dies, and what goes on around it.

/// What ends a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It kills itself at this place.
    At(&'static str),
    /// It is killed while the backend works on the request.
    BackendWorks,
    /// It is killed when the money has moved and the facilitator's answer has not arrived.
    MoneyMoved,
    /// It is killed when the client has the beginning of the answer, and there is more to come.
    AnswerBegun,
}

/// What else goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    None,
    /// The backend answers with a failure.
    BackendFails,
    /// The facilitator declines to settle.
    Declined,
}

/// One way to die. Processes end one after the other; the one after the last lives.
#[derive(Debug, Clone, Copy)]
pub struct Death {
    pub ends: &'static [End],
    pub trouble: Trouble,
}

impl Death {
    const fn by(ends: &'static [End]) -> Self {
        Self { ends, trouble: Trouble::None }
    }

    const fn amid(trouble: Trouble, ends: &'static [End]) -> Self {
        Self { ends, trouble }
    }

    /// How often the same payment may let out an answer: once more for each process that died with a byte of it sent
    /// and no word of that on disk (I1).
    pub fn answers(self) -> usize {
        let unsaid = |end: &&End| matches!(end, End::At("before:delivered") | End::AnswerBegun);
        1 + self.ends.iter().filter(unsaid).count()
    }

    /// Whether it can happen where settlement comes before the backend.
    pub fn happens_before_forward(self) -> bool {
        // What has been settled is not let go when the backend fails.
        self.trouble != Trouble::BackendFails
    }
}

/// Every step of a payment, before and after it is on disk, and the moments in between that the world can see.
pub const DEATHS: [Death; 20] = [
    Death::by(&[End::At("before:reserved")]),
    Death::by(&[End::At("after:reserved")]),
    Death::by(&[End::BackendWorks]),
    Death::amid(Trouble::BackendFails, &[End::At("before:released")]),
    Death::amid(Trouble::BackendFails, &[End::At("after:released")]),
    Death::by(&[End::At("before:settling")]),
    Death::by(&[End::At("after:settling")]),
    Death::amid(Trouble::Declined, &[End::At("before:declined")]),
    Death::amid(Trouble::Declined, &[End::At("after:declined")]),
    Death::by(&[End::MoneyMoved]),
    Death::by(&[End::At("before:settled")]),
    Death::by(&[End::At("after:settled")]),
    Death::by(&[End::AnswerBegun]),
    Death::by(&[End::At("before:delivered")]),
    Death::by(&[End::At("after:delivered")]),
    // And again, while the next process makes good what the first one left.
    Death::by(&[End::At("after:settling"), End::At("before:looked")]),
    Death::by(&[End::At("after:settling"), End::At("after:looked")]),
    Death::by(&[End::MoneyMoved, End::At("after:settled")]),
    Death::by(&[End::MoneyMoved, End::At("before:redeemed")]),
    Death::by(&[End::MoneyMoved, End::At("after:redeemed")]),
];

/// With a gas key of our own, the chain is what remembers.
///
/// Between the ledger's entry and the note of the gas key nothing can be proven before the authorization has lapsed, a
/// minute and a half later; the simulation waits for that.
pub const DEATHS_ON_CHAIN: [Death; 5] = [
    Death::by(&[End::At("before:settling")]),
    Death::by(&[End::At("before:broadcast")]),
    Death::by(&[End::At("after:broadcast")]),
    Death::by(&[End::At("before:settled")]),
    Death::by(&[End::At("after:settled")]),
];
