//! `tollhouse pause`, `resume` and `paused`: what is not sold for now. Said to the ledger, which every process reads.

use clap::Args;
use serde_json::json;

use super::ledger::{Ended, Hand, Place, told};
use super::words::{explain, iso, moment, printable};
use super::{Shape, Verdict, block_on};
use crate::gate::rails::{self, MOST_WORDS, NotSold, Pauses, Scope};
use crate::primitives::{Clock, SystemClock};

#[derive(Debug, Args)]
pub(super) struct Pause {
    /// A route as the file spells it, such as "GET /v1/weather", or `all`
    #[arg(value_name = "ROUTE|all")]
    route: String,
    #[command(flatten)]
    pub(super) hand: Hand,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Resume {
    /// A route that is paused, or `all` to end every pause
    #[arg(value_name = "ROUTE|all")]
    route: String,
    #[command(flatten)]
    pub(super) hand: Hand,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Paused {
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

impl Pause {
    pub(super) fn execute(self) -> Verdict {
        block_on(async { told(self.run().await) })
    }

    async fn run(self) -> Ended {
        let scope = match self.meant()? {
            Ok(scope) => scope,
            Err(why) => {
                talk!("not paused: {why}");
                return Ok(Verdict::No);
            }
        };
        let ledger = self.place.amend(self.hand.author()).await?;
        match Pauses::pause(&**ledger.store(), &scope, said(&self.hand)).await {
            Ok(_) => {
                put!("{scope} is paused; every gateway on this ledger stops selling within about a second");
                Ok(Verdict::Yes)
            }
            Err(error @ rails::ChangeError::TooMany) => {
                talk!("not paused: {error}");
                Ok(Verdict::No)
            }
            Err(error) => Err(explain(&error)),
        }
    }

    /// What is to be paused. Where there is no file, a route is taken as it is written.
    fn meant(&self) -> Result<Result<Scope, NotSold>, String> {
        let scope = Scope::from(&*self.route);
        match (&scope, self.place.live()?) {
            (Scope::Route(_), Some(live)) => Ok(Scope::sold(&self.route, &live.tariff)),
            _ => Ok(Ok(scope)),
        }
    }
}

impl Resume {
    pub(super) fn execute(self) -> Verdict {
        block_on(async { told(self.run().await) })
    }

    async fn run(self) -> Ended {
        let scope = Scope::from(&*self.route);
        let ledger = self.place.amend(self.hand.author()).await?;
        match Pauses::resume(&**ledger.store(), &scope, said(&self.hand)).await {
            Ok(after) => {
                put!("{scope} is resumed");
                if after.at(&Scope::All).is_some() {
                    talk!("nothing is sold yet: `all` is paused as well");
                }
                Ok(Verdict::Yes)
            }
            Err(error @ rails::ChangeError::NotPaused { .. }) => {
                talk!("{error}");
                Ok(Verdict::No)
            }
            Err(error) => Err(explain(&error)),
        }
    }
}

impl Paused {
    pub(super) fn execute(self) -> Verdict {
        block_on(async { told(self.run().await) })
    }

    async fn run(self) -> Ended {
        let store = self.place.look().await?;
        let pauses = Pauses::read(&*store).await.map_err(|error| explain(&error))?;
        if pauses.each().next().is_none() {
            talk!("nothing is paused");
        }
        for (scope, rails::Pause { since, by, why }) in pauses.each() {
            match self.format {
                Shape::Human => {
                    let (by, why) = (printable(by, MOST_WORDS), printable(why, MOST_WORDS));
                    put!("{scope}  since {}  by {by}: {why}", moment(*since));
                }
                Shape::Json => put!(
                    "{}",
                    json!({ "route": scope.as_str(), "since": iso(since.as_millis()), "by": by, "why": why })
                ),
            }
        }
        Ok(Verdict::Yes)
    }
}

/// Who says so now, and why.
fn said(hand: &Hand) -> rails::Pause {
    rails::Pause::new(SystemClock.now(), &hand.by, &hand.why)
}
