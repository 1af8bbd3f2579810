//! `tollhouse ledger verify`: the evidence, gone through again.

use std::str::FromStr;

use clap::Args;
use serde_json::json;

use super::super::words::explain;
use super::super::{Shape, Verdict};
use super::{Ended, Kept, Place};
use crate::ledger::Sqlite;
use crate::ledger::evidence::{ChainId, Extent, Head, verify};

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// A head that an earlier run has printed, as it was printed; the chain must still go through it. May be repeated
    #[arg(long = "head", value_name = "CHAIN:NUMBER:HASH")]
    heads: Vec<Noted>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

/// A head, kept elsewhere.
#[derive(Debug, Clone, Copy)]
struct Noted(ChainId, Head);

impl FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || String::from("write CHAIN:NUMBER:HASH, as `ledger verify` prints it");
        let mut parts = text.split(':');
        let chain = parts.next().and_then(|chain| chain.parse().ok()).ok_or_else(wrong)?;
        let number = parts.next().and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        let hash = parts.next().and_then(|hash| hash.parse().ok()).ok_or_else(wrong)?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self(chain, Head { number, hash }))
    }
}

impl Verify {
    pub(super) async fn run(self) -> Ended {
        let mut noted: Vec<_> = self.heads.iter().map(|Noted(chain, head)| (*chain, *head)).collect();
        // Read before the ledger is: what is noted now, it has reached by then.
        if let Kept::File(path) = self.place.kept()? {
            noted.extend(Sqlite::noted(&path).map_err(|error| explain(&error))?);
        }
        let archive = self.place.look().await?;
        let findings = verify(&*archive, &noted).await.map_err(|error| explain(&error))?;
        match self.format {
            Shape::Human => {
                for fault in &findings.faults {
                    put!("{fault}");
                }
                if findings.unnamed > 0 {
                    put!("and {} more", findings.unnamed);
                }
                talk!(
                    "{} records, {} of them forgotten; {} payments",
                    findings.records,
                    findings.forgotten,
                    findings.entries
                );
                for chain in &findings.chains {
                    put!("head {}", printed(chain));
                }
            }
            Shape::Json => put!(
                "{}",
                json!({
                    "sound": findings.is_sound(),
                    "records": findings.records,
                    "forgotten": findings.forgotten,
                    "payments": findings.entries,
                    "heads": findings.chains.iter().map(printed).collect::<Vec<_>>(),
                    "faults": findings.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "unnamed": findings.unnamed,
                })
            ),
        }
        Ok(if findings.is_sound() { Verdict::Yes } else { Verdict::No })
    }
}

/// A chain's head, in the form that `--head` takes.
pub(super) fn printed(extent: &Extent) -> String {
    let hash = alloy::primitives::hex::encode(extent.head.hash);
    format!("{}:{}:{hash}", extent.chain, extent.head.number)
}
