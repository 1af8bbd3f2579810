//! The desk of a gas key: one submitter at a time, one nonce after another, everything written down before it is
//! sent (S34).
//!
//! What is written down is a [`Book`] in a note that all processes on the same ledger share. Only whoever has the
//! lease writes it, and every write is a compare-and-swap: a process that slept through the end of its lease cannot
//! write any more, and sends nothing that it has not written. So the length of the lease is about patience; safety
//! does not rest on anybody's clock.
//!
//! A turn lasts from signing to the node's answer to the broadcast. A transaction that was prepared and never
//! submitted has not been written down, so its nonce is used again and leaves no gap.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B128, Bytes};
use arc_swap::ArcSwap;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;

use super::book::{Book, Flight, Holder, MOST_IN_FLIGHT, Standing};
use super::notes::{Note, Noted, Notes};
use super::signer::Signer;
use crate::facilitator::BoxError;
use crate::facilitator::chain::{Chain, RpcError};
use crate::payment::{PaymentKey, TransactionHash};
use crate::primitives::{Caip2, Clock, Timestamp};

/// How long a turn waits between signing and sending while others queue. In between lies one write to the ledger.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a process that waits for another one's lease looks.
const LOOK: Duration = Duration::from_millis(100);
/// How many writes in a row others may forestall before a writer gives up.
const MOST_TRIES: usize = 8;
/// How long the key is kept with nothing to do, for the sake of the next payment.
const IDLE: Duration = Duration::from_secs(3);

/// Why nothing can be sent now. Nothing has been.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    /// As much as is allowed is in the air.
    #[error("{MOST_IN_FLIGHT} transactions of this key are not in a block yet")]
    Full,
    /// The notes cannot be read or written.
    #[error("the notes of the gas key cannot be kept")]
    Notes(#[source] BoxError),
    /// The chain does not say which nonce is next.
    #[error(transparent)]
    Chain(#[from] RpcError),
}

/// Why something is not written down.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// Certain: another process became the submitter.
    #[error("another process submits with this key")]
    Lost,
    /// Nobody knows whether it is written.
    #[error("it is not known whether the note was written")]
    Unknown(#[source] BoxError),
}

/// Where transactions of one key on one chain are written down and sent from.
pub struct Desk {
    note: String,
    me: Holder,
    signer: Arc<dyn Signer>,
    notes: Arc<dyn Notes>,
    clock: Arc<dyn Clock>,
    page: Arc<tokio::sync::Mutex<Page>>,
    signed: Mutex<Option<Signed>>,
    /// The book as this process last saw it.
    seen: ArcSwap<Book>,
    /// Nonces that were seen in a block and still have a flight in the book.
    landed: Mutex<BTreeSet<u64>>,
    used: Mutex<Timestamp>,
    /// Wakes whoever tends the desk.
    pub(super) trouble: Notify,
}

/// The book as it stands in the notes.
#[derive(Default)]
struct Page {
    /// `None` sends the holder to the notes.
    stands: Option<Option<u64>>,
    book: Book,
}

/// How writing a page ended.
enum Swapped {
    Written,
    /// Somebody was faster; the page is now theirs.
    Overtaken,
}

/// The right to send the next transaction. Holds the queue of this process until dropped.
pub(super) struct Turn {
    page: OwnedMutexGuard<Page>,
    next: u64,
}

/// A transaction that was signed and not yet sent.
pub(super) struct Signed {
    /// The turn it was signed in.
    pub(super) turn: Turn,
    /// As it will be written down.
    pub(super) flight: Flight,
    /// When it was signed.
    pub(super) at: Timestamp,
    since: Instant,
}

impl Desk {
    /// The desk of a key on a chain. Every desk of the same key and chain, in whichever process, must share `notes`.
    pub fn new(network: &Caip2, signer: Arc<dyn Signer>, notes: Arc<dyn Notes>, clock: Arc<dyn Clock>) -> Self {
        let mut me = [0; 16];
        SystemRandom::new().fill(&mut me).expect("the system has randomness");
        Self {
            note: format!("gas key {:#x} on {network}", signer.address()),
            me: Holder(B128::new(me)),
            signer,
            notes,
            used: Mutex::new(Timestamp::EPOCH),
            clock,
            page: Arc::default(),
            signed: Mutex::default(),
            seen: ArcSwap::default(),
            landed: Mutex::default(),
            trouble: Notify::new(),
        }
    }

    /// The account that pays.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Who signs.
    pub(super) fn signer(&self) -> &dyn Signer {
        &*self.signer
    }

    /// The book as this process last saw it.
    pub(super) fn book(&self) -> Arc<Book> {
        self.seen.load_full()
    }

    /// The book as it stands.
    pub(super) async fn look(&self) -> Result<Arc<Book>, BoxError> {
        let (_, book) = self.read().await?;
        self.seen.store(Arc::new(book));
        Ok(self.book())
    }

    /// Whose turn it is, by this book.
    pub(super) fn standing(&self, book: &Book) -> Standing {
        book.standing(self.me, self.clock.now())
    }

    /// The transactions that may settle a payment, the latest first.
    pub(super) fn hashes(&self, payment: &PaymentKey) -> Vec<TransactionHash> {
        self.seen.load().flight_of(payment).map(|flight| flight.hashes().collect()).unwrap_or_default()
    }

    /// Waits for a turn to send something new: in this process, then for the lease.
    pub(super) async fn turn(&self, chain: &Chain) -> Result<Turn, Closed> {
        let mut page = self.queue().await;
        let arrived = self.take_lease(&mut page).await?;
        *lock(&self.used) = self.clock.now();
        let book = &page.book;
        if book.flights.len().saturating_sub(lock(&self.landed).len()) >= MOST_IN_FLIGHT {
            return Err(Closed::Full);
        }
        // With nothing in the air the chain knows best; and whoever comes to the key does not know what else it
        // was used for. A node that lags behind is not believed (S27).
        let next = match arrived || book.flights.is_empty() {
            true => book.next.max(chain.count(self.address(), "pending").await?),
            false => book.next,
        };
        Ok(Turn { page, next })
    }

    /// Waits for a turn to look after what was sent.
    pub(super) async fn turn_to_mend(&self) -> Result<Turn, Closed> {
        let mut page = self.queue().await;
        self.take_lease(&mut page).await?;
        let next = page.book.next;
        Ok(Turn { page, next })
    }

    /// A transaction that was signed a while ago and not sent loses its turn to whoever queues.
    async fn queue(&self) -> OwnedMutexGuard<Page> {
        let lock = self.page.clone().lock_owned();
        tokio::pin!(lock);
        loop {
            match tokio::time::timeout(PATIENCE, &mut lock).await {
                Ok(page) => return page,
                Err(_) => drop(self::lock(&self.signed).take_if(|signed| signed.since.elapsed() >= PATIENCE)),
            }
        }
    }

    /// Makes this process the submitter, waiting for as long as another one is. Returns whether it was not before.
    async fn take_lease(&self, page: &mut Page) -> Result<bool, Closed> {
        loop {
            if page.stands.is_none() {
                let (version, book) = self.read().await.map_err(Closed::Notes)?;
                *page = Page { stands: Some(version), book };
            }
            let now = self.clock.now();
            let mut next = page.book.clone();
            let arrived = !next.is_held_by(self.me);
            match next.standing(self.me, now) {
                Standing::Ours => return Ok(false),
                Standing::Open => {
                    next.lease_to(self.me, now);
                    match self.swap(page, &next).await.map_err(Closed::Notes)? {
                        Swapped::Written => return Ok(arrived),
                        Swapped::Overtaken => {}
                    }
                }
                Standing::Theirs => {
                    if next.wish_for(self.me, now) {
                        self.swap(page, &next).await.map_err(Closed::Notes)?;
                    }
                    tokio::time::sleep(LOOK).await;
                    page.stands = None;
                }
            }
        }
    }

    /// Keeps a turn for the transaction that was signed in it.
    pub(super) fn keep(&self, turn: Turn, flight: Flight) {
        *lock(&self.signed) = Some(Signed { turn, flight, at: self.clock.now(), since: Instant::now() });
    }

    /// The transaction's turn, unless it has passed.
    pub(super) fn take(&self, hash: TransactionHash) -> Option<Signed> {
        lock(&self.signed).take_if(|signed| signed.flight.latest().hash == hash)
    }

    /// Writes a change of the book down. Nothing is sent that this has not written.
    pub(super) async fn write(&self, turn: &mut Turn, change: impl FnOnce(&mut Book)) -> Result<(), Unwritten> {
        let mut next = turn.page.book.clone();
        let landed = lock(&self.landed).clone();
        next.flights.retain(|flight| !landed.contains(&flight.nonce));
        change(&mut next);
        for _ in 0..MOST_TRIES {
            let before = turn.page.book.clone();
            match self.swap(&mut turn.page, &next).await {
                Ok(Swapped::Written) => {
                    lock(&self.landed).retain(|nonce| !landed.contains(nonce));
                    return Ok(());
                }
                Ok(Swapped::Overtaken) if before.differs_only_in_wish(&turn.page.book) => {
                    next = next.with_wish_of(&turn.page.book);
                }
                Ok(Swapped::Overtaken) => return Err(Unwritten::Lost),
                Err(source) => return Err(Unwritten::Unknown(source)),
            }
        }
        Err(Unwritten::Lost)
    }

    /// Ends a turn; another process gets the key if it has waited long enough.
    pub(super) async fn finish(&self, mut turn: Turn) {
        if turn.page.book.should_yield(self.me, self.clock.now()) {
            self.release(&mut turn.page).await;
        }
    }

    /// Lets the key go when there is nothing to do with it, or another process has waited for long enough.
    pub(super) async fn rest(&self) {
        let Ok(mut page) = self.page.clone().try_lock_owned() else { return };
        let now = self.clock.now();
        let book = self.book();
        let idle = book.flights.is_empty() && now.since(*lock(&self.used)) >= IDLE;
        if book.is_held_by(self.me) && (idle || book.should_yield(self.me, now)) {
            page.stands = None;
            self.release(&mut page).await;
        }
    }

    /// Lets the key go for good, so that the next process need not wait for the lease to lapse.
    pub async fn close(&self) {
        let mut page = self.queue().await;
        self.release(&mut page).await;
    }

    async fn release(&self, page: &mut Page) {
        for _ in 0..MOST_TRIES {
            if page.stands.is_none() {
                let Ok((version, book)) = self.read().await else { return };
                *page = Page { stands: Some(version), book };
            }
            if !page.book.is_held_by(self.me) {
                return;
            }
            let mut next = page.book.clone();
            next.let_go(self.me);
            // One that is not written lapses.
            if !matches!(self.swap(page, &next).await, Ok(Swapped::Overtaken)) {
                return;
            }
        }
    }

    /// A nonce was seen in a block.
    pub(super) fn landed(&self, nonce: u64) {
        if self.seen.load().under(nonce).is_some() {
            lock(&self.landed).insert(nonce);
        }
    }

    /// Whether something was seen in a block and is still in the book.
    pub(super) fn has_landed(&self) -> bool {
        !lock(&self.landed).is_empty()
    }

    /// Writes the next page.
    async fn swap(&self, page: &mut Page, next: &Book) -> Result<Swapped, BoxError> {
        // Until the answer is here, nobody knows what stands in the notes.
        let expected = page.stands.take().ok_or("the notes have not been read")?;
        let ((version, book), swapped) = match self.notes.swap(&self.note, expected, &next.text()?).await? {
            Noted::Written(version) => ((Some(version), next.clone()), Swapped::Written),
            Noted::Overtaken(note) => (opened(note)?, Swapped::Overtaken),
        };
        self.seen.store(Arc::new(book.clone()));
        *page = Page { stands: Some(version), book };
        Ok(swapped)
    }

    async fn read(&self) -> Result<(Option<u64>, Book), BoxError> {
        opened(self.notes.read(&self.note).await?)
    }
}

impl Turn {
    /// The nonce to sign with.
    pub(super) fn nonce(&self) -> u64 {
        self.next
    }

    /// The book as it stands.
    pub(super) fn book(&self) -> &Book {
        &self.page.book
    }
}

impl Signed {
    /// The signed transaction.
    pub(super) fn raw(&self) -> &Bytes {
        &self.flight.raw.0
    }
}

fn opened(note: Option<Note>) -> Result<(Option<u64>, Book), BoxError> {
    match note {
        Some(note) => Ok((Some(note.version), Book::read(&note.text)?)),
        None => Ok((None, Book::default())),
    }
}

/// Whoever panicked while holding one of these left a whole value behind.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
