//! Goes through the chains again and names whatever does not fit.

use std::collections::{HashMap, HashSet};
use std::fmt;

use alloy::primitives::B256;

use super::super::{Archive, StoreError, Version};
use super::{ADOPTED, Agreement, Body, ChainId, Content, Extent, Head, Record, Standing, link, sum};
use crate::payment::PaymentKey;

/// How many records, entries or claims are read at once.
const PAGE: usize = 1000;

/// How many faults are named; further ones are counted.
const NAMED: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The chains, and how far they reach. Keep this elsewhere: it is what a later verification can be held to.
    pub chains: Vec<Extent>,
    /// How many records were read.
    pub records: u64,
    /// How many of them were forgotten with their payment.
    pub forgotten: u64,
    /// How many entries were compared with their records.
    pub entries: u64,
    /// What does not fit, the first in each chain first. At most a hundred.
    pub faults: Vec<Fault>,
    /// How many more there are.
    pub unnamed: u64,
}

/// Something that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The record is not the one its hash was made of.
    Altered(ChainId, u64),
    /// There is no such record, though there are later ones.
    Missing(ChainId, u64),
    /// The chain ends here, though it is known to have reached the second number.
    CutOff(ChainId, u64, u64),
    /// The record says nothing that can be read.
    Unreadable(ChainId, u64),
    /// What was noted elsewhere about this place is not what stands here.
    NotAsNoted(ChainId, u64),
    /// Some record of the payment is gone, or stands twice.
    Gap(PaymentKey),
    /// The entry is another one than its latest record says.
    EntryAltered(PaymentKey, Version),
    /// The entry has no record of this writing.
    NotOnRecord(PaymentKey, Version),
    /// The payment is on record, and its entry is gone.
    EntryGone(PaymentKey),
    /// The column says something else than the entry.
    ColumnAltered(PaymentKey, &'static str),
    /// The entry is the one on record, and it or a column beside it cannot be read.
    EntryUnreadable(PaymentKey),
    /// A fact that the payment claimed on record is no longer its own.
    ClaimGone(PaymentKey),
    /// A claim is said to be of this payment, of which nothing is known.
    ClaimOfNobody(PaymentKey),
    /// The chain begins behind the second number now, so nothing can be held against what was noted about the first.
    Outlived(ChainId, u64, u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Altered(chain, number) => write!(f, "record {number} of chain {chain} was altered or moved"),
            Self::Missing(chain, number) => write!(f, "record {number} of chain {chain} is missing"),
            Self::CutOff(chain, last, known) => {
                write!(f, "chain {chain} is cut off behind record {last}; it reached record {known}")
            }
            Self::Unreadable(chain, number) => write!(f, "record {number} of chain {chain} cannot be read"),
            Self::NotAsNoted(chain, number) => {
                write!(f, "record {number} of chain {chain} is not the one that was noted")
            }
            Self::Gap(key) => write!(f, "a record of payment {key} is missing or stands twice"),
            Self::EntryAltered(key, version) => {
                write!(f, "the entry of payment {key} is not what its record of version {version} says")
            }
            Self::NotOnRecord(key, version) => write!(f, "version {version} of payment {key} is not on record"),
            Self::EntryGone(key) => write!(f, "payment {key} is on record, and its entry is gone"),
            Self::ColumnAltered(key, name) => {
                write!(f, "the column {name} of payment {key} says something else than its entry")
            }
            Self::EntryUnreadable(key) => {
                write!(
                    f,
                    "the entry of payment {key} or a column beside it cannot be read; a later version of tollhouse may \
                     have written it"
                )
            }
            Self::ClaimGone(key) => write!(f, "what payment {key} rests on is no longer claimed by it"),
            Self::ClaimOfNobody(key) => write!(f, "a claim is said to be of payment {key}, which is not in the ledger"),
            Self::Outlived(chain, number, base) => write!(
                f,
                "record {number} of chain {chain} was forgotten, and all up to record {base}: whether the chain went \
                 through what was noted cannot be said any more"
            ),
        }
    }
}

/// What the records say about one payment.
struct Known {
    /// The writing on record that comes first: number one, or one that was taken over from before there were records.
    first: Version,
    adopted: bool,
    latest: Version,
    entry: B256,
    records: u64,
    /// The facts it claimed, as their SHA-256.
    claims: Vec<B256>,
    /// Whether its entry stands.
    stands: bool,
}

impl Known {
    /// Whether each writing from the first to the latest is on record once.
    const fn is_whole(&self) -> bool {
        (self.first == 1 || self.adopted) && self.records == self.latest - self.first + 1
    }
}

/// Reads everything and compares it. `noted` are heads that were kept elsewhere.
///
/// Needs about two hundred bytes of memory for each payment that is remembered.
///
/// # Errors
/// When the store fails: then nothing is known.
pub async fn verify(archive: &dyn Archive, noted: &[(ChainId, Head)]) -> Result<Findings, StoreError> {
    let mut findings = Findings { chains: archive.chains().await?, ..Findings::default() };
    let mut known = HashMap::new();
    for extent in findings.chains.clone() {
        walk(archive, extent, noted, &mut known, &mut findings).await?;
    }
    for (chain, head) in noted {
        if !findings.chains.iter().any(|extent| extent.chain == *chain) {
            findings.fault(Fault::CutOff(*chain, 0, head.number));
        }
    }
    compare(archive, &mut known, &mut findings).await?;
    compare_claims(archive, &known, &mut findings).await?;
    Ok(findings)
}

/// One chain from its beginning to its end.
async fn walk(
    archive: &dyn Archive,
    extent: Extent,
    noted: &[(ChainId, Head)],
    known: &mut HashMap<PaymentKey, Known>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let chain = extent.chain;
    let noted: Vec<Head> = noted.iter().filter(|(of, _)| *of == chain).map(|(_, head)| *head).collect();
    let mut at = extent.base;
    for head in &noted {
        if head.number == at.number && head.hash != at.hash {
            findings.fault(Fault::NotAsNoted(chain, head.number));
        } else if 0 < head.number && head.number < at.number {
            findings.fault(Fault::Outlived(chain, head.number, at.number));
        }
    }
    loop {
        let page = archive.records(chain, at.number, PAGE).await?;
        for record in &page {
            if record.head.number != at.number + 1 {
                findings.fault(Fault::Missing(chain, at.number + 1));
            } else if link(chain, record.head.number, at.hash, record.content.digest()) != record.head.hash {
                findings.fault(Fault::Altered(chain, record.head.number));
            }
            if noted.iter().any(|head| head.number == record.head.number && head.hash != record.head.hash) {
                findings.fault(Fault::NotAsNoted(chain, record.head.number));
            }
            at = record.head;
            findings.take(record, known);
        }
        if page.len() < PAGE {
            break;
        }
    }
    let reached = noted.iter().map(|head| head.number).chain([extent.head.number]).max().unwrap_or_default();
    if at.number < reached {
        findings.fault(Fault::CutOff(chain, at.number, reached));
    } else if at != extent.head {
        findings.fault(Fault::Altered(chain, at.number));
    }
    Ok(())
}

/// Every entry against its latest record.
async fn compare(
    archive: &dyn Archive,
    known: &mut HashMap<PaymentKey, Known>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let mut last = None;
    loop {
        let page = archive.standing(last, PAGE).await?;
        last = page.last().map(|entry| entry.key);
        for entry in &page {
            findings.entries += 1;
            findings.judge(entry, known.get_mut(&entry.key));
        }
        if page.len() < PAGE {
            break;
        }
    }
    let mut gone: Vec<PaymentKey> = known.iter().filter(|(_, known)| !known.stands).map(|(key, _)| *key).collect();
    gone.sort_unstable();
    gone.into_iter().for_each(|key| findings.fault(Fault::EntryGone(key)));
    Ok(())
}

/// Every claim that is on record still stands, and none is of a payment that nobody knows. What a claim says is not looked
/// at. One that is not on record is no fault: earlier versions put none there.
async fn compare_claims(
    archive: &dyn Archive,
    known: &HashMap<PaymentKey, Known>,
    findings: &mut Findings,
) -> Result<(), StoreError> {
    let mut missing: HashSet<(PaymentKey, B256)> =
        known.iter().flat_map(|(key, known)| known.claims.iter().map(|fact| (*key, *fact))).collect();
    let mut last = None;
    loop {
        let page = archive.claims(last, PAGE).await?;
        for (fact, owner) in &page {
            missing.remove(&(*owner, sum(fact)));
            if !known.contains_key(owner) {
                findings.fault(Fault::ClaimOfNobody(*owner));
            }
        }
        let whole = page.len() == PAGE;
        last = page.into_iter().next_back().map(|(fact, _)| fact);
        if !whole {
            break;
        }
    }
    let mut bare: Vec<PaymentKey> = missing.into_iter().map(|(key, _)| key).collect();
    bare.sort_unstable();
    bare.dedup();
    bare.into_iter().for_each(|key| findings.fault(Fault::ClaimGone(key)));
    Ok(())
}

impl Findings {
    /// Whether everything fits.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < NAMED {
            self.faults.push(fault);
        } else {
            self.unnamed += 1;
        }
    }

    fn take(&mut self, record: &Record, known: &mut HashMap<PaymentKey, Known>) {
        self.records += 1;
        if matches!(record.content, Content::Forgotten(_)) {
            self.forgotten += 1;
        }
        match record.content.body() {
            Ok(Some(Body { payment: Some(key), version, entry, step, claims, .. })) => {
                let adopted = step == ADOPTED;
                let payment = known.entry(key).or_insert(Known {
                    first: version,
                    adopted,
                    latest: version,
                    entry,
                    records: 0,
                    claims: Vec::new(),
                    stands: false,
                });
                payment.records += 1;
                payment.claims.extend(claims.iter().map(|fact| sum(fact)));
                if version > payment.latest {
                    (payment.latest, payment.entry) = (version, entry);
                }
                if version < payment.first {
                    (payment.first, payment.adopted) = (version, adopted);
                }
            }
            Ok(_) => {}
            Err(_) => self.fault(Fault::Unreadable(record.chain, record.head.number)),
        }
    }

    fn judge(&mut self, standing: &Standing, known: Option<&mut Known>) {
        let Standing { key, version, entry, columns } = *standing;
        let known = known.map(|known| {
            known.stands = true;
            &*known
        });
        match known {
            None => self.fault(Fault::NotOnRecord(key, version)),
            Some(known) if known.latest < version => self.fault(Fault::NotOnRecord(key, version)),
            Some(known) if known.latest > version || known.entry != entry => {
                self.fault(Fault::EntryAltered(key, known.latest));
            }
            Some(known) if !known.is_whole() => self.fault(Fault::Gap(key)),
            Some(_) => match columns {
                Agreement::Whole => {}
                Agreement::Differs(name) => self.fault(Fault::ColumnAltered(key, name)),
                Agreement::Unreadable => self.fault(Fault::EntryUnreadable(key)),
            },
        }
    }
}
