//! `tollhouse ledger stats`: how many, and how much.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use clap::Args;
use serde_json::json;

use super::super::{Shape, Verdict};
use super::list::{Which, each};
use super::{Ended, Place};
use crate::ledger::State;
use crate::primitives::{Asset, AtomicAmount};

#[derive(Debug, Args)]
pub(super) struct Stats {
    #[command(flatten)]
    which: Which,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

/// Payments in one state, of one asset on one network.
#[derive(Default)]
struct Pile {
    count: u64,
    amount: U256,
    asset: Option<std::sync::Arc<Asset>>,
}

impl Stats {
    pub(super) async fn run(self) -> Ended {
        let mut piles: BTreeMap<(usize, String, String), Pile> = BTreeMap::new();
        each(&self.place.look().await?, self.which.filter(), usize::MAX, |_, found| {
            let offer = &found.entry.sale.payment.offer;
            let name = found.entry.state.name();
            let order = State::NAMES.iter().position(|state| *state == name).unwrap_or_default();
            let pile = piles.entry((order, offer.network.id.to_string(), offer.asset.symbol.clone())).or_default();
            pile.count += 1;
            pile.amount = pile.amount.saturating_add(offer.amount.units());
            pile.asset = Some(offer.asset.clone());
            Ok(())
        })
        .await?;
        if piles.is_empty() {
            talk!("no payment fits");
        }
        for ((order, network, symbol), pile) in &piles {
            let (state, amount) = (State::NAMES[*order], AtomicAmount::new(pile.amount));
            match self.format {
                Shape::Human => {
                    let shown = pile.asset.as_ref().map(|asset| asset.display(amount)).unwrap_or_default();
                    put!("{state:<12} {:>9}  {shown:>14}  {network} {symbol}", pile.count);
                }
                Shape::Json => put!(
                    "{}",
                    json!({ "state": state, "network": network, "symbol": symbol, "count": pile.count, "amount": amount })
                ),
            }
        }
        Ok(Verdict::Yes)
    }
}
