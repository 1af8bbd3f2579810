//! Our own node beside it: its word is worth what the chain shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tollhouse::facilitator::chain::{Never, Unused, Verdict};
use tollhouse::facilitator::{
    BoxError, Config, Contradiction, Facilitator, Kind, Means, Outcome, Remote, Standing, Trust, Witness, Witnessed,
};
use tollhouse::payment::{Payment, TransactionHash};
use tollhouse::primitives::{Caip2, Clock, SystemClock, Timestamp};
use tollhouse::testing::ScriptedFacilitator;
use tollhouse::testing::vectors::{eip3009_base_sepolia, unsigned};

use super::{End, end, hash, settle, unresolved};

/// How a search of the chain ends.
type Search = fn() -> Verdict;
/// What a look at a nonce shows.
type Look = fn() -> Result<Unused, BoxError>;

/// A node that makes up its mind at the n-th question: an error at first, then "not yet".
struct Node {
    says: Witnessed,
    found: Search,
    unused: Look,
    after: usize,
    asked: Arc<AtomicUsize>,
    watches: bool,
}

impl Node {
    fn new(says: Witnessed, after: usize) -> Self {
        let found = || Verdict::CannotTell("the authorization is unused".into());
        Self { says, found, unused: || Ok(Unused::Yet), after, asked: Arc::default(), watches: true }
    }
}

#[async_trait]
impl Witness for Node {
    fn watches(&self, _network: &Caip2) -> bool {
        self.watches
    }

    async fn witnessed(&self, _payment: &Payment, _transaction: TransactionHash) -> Result<Witnessed, BoxError> {
        match self.asked.fetch_add(1, Ordering::SeqCst) {
            0 if self.after > 0 => Err("the node is out of breath".into()),
            asked if asked < self.after => Ok(Witnessed::NotYet),
            _ => Ok(self.says.clone()),
        }
    }

    async fn settlement(&self, _payment: &Payment, _reserved_at: Timestamp) -> Verdict {
        (self.found)()
    }

    async fn unused(&self, _network: &Caip2, payments: &[&Payment]) -> Result<Vec<Unused>, BoxError> {
        Ok(vec![(self.unused)()?; payments.len()])
    }

    async fn means(&self, _payment: &Payment) -> Result<Means, BoxError> {
        Err("the node is out of breath".into())
    }
}

/// One that asks this node about every success.
fn watched(config: Config, node: Node) -> Remote {
    let Kind::Remote { url, auth, .. } = config.kind else { panic!("scripted facilitators are remote") };
    let config = Config { kind: Kind::Remote { url, auth, trust: Trust::Verify }, ..config };
    Remote::new(&config, Some(Arc::new(node)), Arc::new(SystemClock)).expect("a good configuration")
}

#[tokio::test]
async fn s16_a_settlement_counts_when_our_own_node_shows_the_transfer() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node::new(Witnessed::Yes { block: 7 }, 2);
    let asked = node.asked.clone();
    let result = settle(&watched(facilitator.config("remote"), node), &eip3009_base_sepolia()).await;
    assert_eq!(end(&result), End::Settled, "{result:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "an error, a not yet, and the transfer");
    assert_eq!(result.ok().and_then(|receipt| receipt.block), Some(7), "what is proven says where (S5)");
}

#[tokio::test]
async fn s16_a_lying_facilitator_raises_an_alarm_and_settles_nothing() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node::new(Witnessed::No("holds no such transfer".into()), 0);
    let remote = watched(facilitator.config("remote"), node);
    let payment = eip3009_base_sepolia();
    assert_eq!(end(&settle(&remote, &payment).await), End::Alarm(true));
    match remote.outcome(&unresolved(&payment, Some(hash()))).await {
        Outcome::Unknown { source, .. } => assert!(Contradiction::is_behind(source.as_ref()), "{source}"),
        other => panic!("nothing is on chain, and yet {other:?}"),
    }
}

#[tokio::test]
async fn s27_a_transfer_our_node_does_not_show_in_time_is_unknown() {
    let facilitator = ScriptedFacilitator::start().await;
    let config = Config { settle_timeout: Duration::from_secs(1), ..facilitator.config("remote") };
    let remote = watched(config, Node::new(Witnessed::Yes { block: 7 }, usize::MAX));
    let result = settle(&remote, &eip3009_base_sepolia()).await;
    assert!(matches!(end(&result), End::Unknown(_)), "{result:?}");
}

#[tokio::test]
async fn s21_a_settlement_whose_transaction_nobody_wrote_down_is_found_on_chain() {
    let facilitator = ScriptedFacilitator::start().await;
    let found = || Verdict::Settled { transaction: hash(), block: 7, at: SystemClock.now() };
    let node = Node { found, ..Node::new(Witnessed::NotYet, 0) };
    let outcome = watched(facilitator.config("remote"), node).outcome(&unresolved(&eip3009_base_sepolia(), None)).await;
    assert!(matches!(outcome, Outcome::Settled(receipt) if receipt.transaction == hash()));
    assert_eq!(facilitator.count("/settle"), 0, "what is on chain needs no second settle");
}

#[tokio::test]
async fn s28_our_own_node_proves_that_a_lapsed_authorization_moved_nothing() {
    let facilitator = ScriptedFacilitator::start().await;
    let node = Node { found: || Verdict::Never(Never::Lapsed), ..Node::new(Witnessed::NotYet, 0) };
    let outcome = watched(facilitator.config("remote"), node).outcome(&unresolved(&eip3009_base_sepolia(), None)).await;
    let code = "invalid_exact_evm_payload_authorization_valid_before";
    assert!(matches!(outcome, Outcome::NotSettled(decline) if decline.code == code));
    assert_eq!(facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s16_a_known_transaction_on_chain_needs_no_second_settle() {
    let facilitator = ScriptedFacilitator::start().await;
    let remote = watched(facilitator.config("remote"), Node::new(Witnessed::Yes { block: 7 }, 0));
    let outcome = remote.outcome(&unresolved(&eip3009_base_sepolia(), Some(hash()))).await;
    assert!(matches!(outcome, Outcome::Settled(receipt) if receipt.transaction == hash()));
    assert_eq!(facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s16_where_nobody_can_look_its_word_is_taken() {
    let facilitator = ScriptedFacilitator::start().await;
    let denies = || Node::new(Witnessed::No("is nowhere".into()), 0);
    let blind = watched(facilitator.config("remote"), Node { watches: false, ..denies() });
    assert_eq!(end(&settle(&blind, &eip3009_base_sepolia()).await), End::Settled);
    // `trust: facilitator` says so for every network.
    let trusting = Remote::new(&facilitator.config("remote"), Some(Arc::new(denies())), Arc::new(SystemClock));
    assert_eq!(end(&settle(&trusting.expect("a good configuration"), &unsigned(2)).await), End::Settled);
}

#[tokio::test]
async fn s16_a_refusal_is_worth_what_our_own_node_makes_of_it() {
    let facilitator = ScriptedFacilitator::start().await;
    let settled = || Verdict::Settled { transaction: hash(), block: 7, at: SystemClock.now() };
    let unsure = || Verdict::CannotTell("the nonce is used, but no log says what for".into());
    let rows: [(&str, Look, Search, &str); 6] = [
        ("unused: the search would find it, and is not asked", || Ok(Unused::Yet), settled, "open"),
        ("lapsed: the search would find it, and is not asked", || Ok(Unused::ForGood), settled, "dead"),
        ("used, and the transfer is there", || Ok(Unused::Perhaps), settled, "moved"),
        ("used for something else", || Ok(Unused::Perhaps), || Verdict::Never(Never::SpentElsewhere), "dead"),
        ("used, and nobody knows what for", || Ok(Unused::Perhaps), unsure, "unclear"),
        ("no answer", || Err("the node is out of breath".into()), settled, "unclear"),
    ];
    for (row, unused, found, expected) in rows {
        let node = Node { unused, found, ..Node::new(Witnessed::NotYet, 0) };
        let asked = [unresolved(&eip3009_base_sepolia(), None), unresolved(&unsigned(2), None)];
        let standings = watched(facilitator.config("remote"), node).recheck(&asked).await;
        assert_eq!(standings.iter().map(word).collect::<Vec<_>>(), [expected; 2], "{row}: {standings:?}");
    }
    let blind = Node { watches: false, ..Node::new(Witnessed::NotYet, 0) };
    let standings = watched(facilitator.config("remote"), blind).recheck(&[unresolved(&unsigned(2), None)]).await;
    assert_eq!(standings.iter().map(word).collect::<Vec<_>>(), ["stands"], "there is nobody to ask");
    assert!(facilitator.calls().is_empty(), "whoever declined is not asked again");
}

fn word(standing: &Standing) -> &'static str {
    match standing {
        Standing::Stands => "stands",
        Standing::Open => "open",
        Standing::Dead(_) => "dead",
        Standing::Moved(receipt) => {
            if receipt.block == Some(7) {
                "moved"
            } else {
                "moved, nobody knows where"
            }
        }
        Standing::Unclear(_) => "unclear",
    }
}
