//! What people have paused: one cell of the ledger, which every process on it reads.
//!
//! The ledger is also what protects it (S62): whoever may write to the ledger may pause. The admin API is a door to the
//! same cell, for those who hold its key.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ledger::{CellSwap, Store, StoreError};
use crate::primitives::Timestamp;
use crate::tariff::{Charge, RouteKey, Tariff};

/// The cell they stand in.
const CELL: &str = "pauses";
/// More routes than anybody pauses one by one. Every process reads the cell every second.
pub const MOST_ROUTES: usize = 1000;
/// Longer reasons and names are cut, in characters.
pub const MOST_WORDS: usize = 200;

/// What is paused. Keys that this version does not know make the cell unreadable, because they may mean that more is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pauses {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Pause>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    routes: BTreeMap<RouteKey, Pause>,
    /// Who resumed last, for the logs of those who read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed: Option<Pause>,
}

/// Who paused or resumed, when and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What a pause is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every route with a price.
    All,
    /// This one.
    Route(RouteKey),
}

/// Why a pause cannot be written or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There are too many already.
    #[error("{MOST_ROUTES} routes are paused one by one; pause `all`")]
    TooMany,
    /// There is no such pause to end.
    #[error("{scope} is not paused{}", if *.all { "; `all` is" } else { "" })]
    NotPaused {
        /// What was to be resumed.
        scope: Scope,
        /// Whether everything is paused.
        all: bool,
    },
    /// The ledger does not answer. Whether it was written is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A route that nobody sells.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the file sells no route `{route}`{}", .meant.as_ref().map(|key| format!("; did you mean `{}`?", key.0)).unwrap_or_default())]
pub struct NotSold {
    /// As it was written, shortened, without what could steer a terminal (S63).
    pub route: String,
    /// The route that was probably meant.
    pub meant: Option<RouteKey>,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Scope {
    /// A route's key, or `all`. No key is spelled like that: keys hold a slash.
    pub fn as_str(&self) -> &str {
        match self {
            Self::All => "all",
            Self::Route(route) => &route.0,
        }
    }

    /// What a text means where these prices hold: a pause that was mistyped would pause nothing, and nobody would notice.
    ///
    /// # Errors
    /// When it is no route with a price.
    pub fn sold(text: &str, tariff: &Tariff) -> Result<Self, NotSold> {
        let scope = Self::from(text);
        let priced = || tariff.routes().filter(|one| matches!(one.charge, Charge::Toll(_))).map(|one| &one.key);
        match &scope {
            Self::Route(route) if !priced().any(|key| key == route) => {
                let visible = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
                let route: String = text.chars().take(MOST_WORDS).map(visible).collect();
                let meant = priced().min_by_key(|key| strsim::damerau_levenshtein(&key.0, &route)).cloned();
                Err(NotSold { route, meant })
            }
            _ => Ok(scope),
        }
    }
}

impl From<&str> for Scope {
    fn from(text: &str) -> Self {
        if text == "all" { Self::All } else { Self::Route(RouteKey(text.into())) }
    }
}

impl Pause {
    /// A pause whose words are no longer than they may be.
    pub fn new(since: Timestamp, by: &str, why: &str) -> Self {
        let short = |text: &str| text.chars().take(MOST_WORDS).collect();
        Self { since, by: short(by), why: short(why) }
    }
}

impl Pauses {
    /// What is paused now.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(store.cell(CELL).await?.map(|(_, text)| Self::decode(&text)).unwrap_or_default())
    }

    /// Pauses. A pause that stands already keeps its beginning and gets the new words.
    ///
    /// # Errors
    /// When too many routes are paused one by one, or the ledger does not answer.
    pub async fn pause(store: &dyn Store, scope: &Scope, pause: Pause) -> Result<Self, ChangeError> {
        change(store, |pauses| {
            let pause = Pause { since: pauses.at(scope).map_or(pause.since, |stands| stands.since), ..pause.clone() };
            match scope {
                Scope::All => pauses.all = Some(pause),
                Scope::Route(route) => {
                    pauses.routes.insert(route.clone(), pause);
                }
            }
            if pauses.routes.len() > MOST_ROUTES { Err(ChangeError::TooMany) } else { Ok(()) }
        })
        .await
    }

    /// Ends the pause of a route, or with [`Scope::All`] every pause. A route stays paused while all are.
    ///
    /// # Errors
    /// When there is no such pause, or the ledger does not answer.
    pub async fn resume(store: &dyn Store, scope: &Scope, resumed: Pause) -> Result<Self, ChangeError> {
        change(store, |pauses| {
            let paused = match scope {
                Scope::All => std::mem::take(pauses).each().next().is_some(),
                Scope::Route(route) => pauses.routes.remove(route).is_some(),
            };
            if !paused {
                return Err(ChangeError::NotPaused { scope: scope.clone(), all: pauses.all.is_some() });
            }
            pauses.resumed = Some(resumed.clone());
            Ok(())
        })
        .await
    }

    /// What pauses a route: its own pause, or that of all.
    pub fn of(&self, route: &RouteKey) -> Option<&Pause> {
        self.all.as_ref().or_else(|| self.routes.get(route))
    }

    /// The pause with exactly this scope.
    pub fn at(&self, scope: &Scope) -> Option<&Pause> {
        match scope {
            Scope::All => self.all.as_ref(),
            Scope::Route(route) => self.routes.get(route),
        }
    }

    /// Who resumed last.
    pub fn resumed(&self) -> Option<&Pause> {
        self.resumed.as_ref()
    }

    /// Every pause.
    pub fn each(&self) -> impl Iterator<Item = (Scope, &Pause)> {
        let all = self.all.iter().map(|pause| (Scope::All, pause));
        all.chain(self.routes.iter().map(|(route, pause)| (Scope::Route(route.clone()), pause)))
    }

    /// A cell that cannot be read pauses everything: what it said may have been just that.
    fn decode(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_else(|_| Self {
            all: Some(Pause::new(
                Timestamp::EPOCH,
                "tollhouse",
                "what is paused cannot be read; `resume all` clears it",
            )),
            ..Self::default()
        })
    }
}

/// Changes the cell; of several people at once, each changes what the one before left.
async fn change(
    store: &dyn Store,
    apply: impl Fn(&mut Pauses) -> Result<(), ChangeError>,
) -> Result<Pauses, ChangeError> {
    let mut stands = store.cell(CELL).await?;
    loop {
        let mut pauses = stands.as_ref().map(|(_, text)| Pauses::decode(text)).unwrap_or_default();
        apply(&mut pauses)?;
        let text = serde_json::to_vec(&pauses).map_err(|error| StoreError(error.into()))?;
        match store.swap_cell(CELL, stands.map(|(version, _)| version), &text).await? {
            CellSwap::Applied(_) => return Ok(pauses),
            CellSwap::Stale(found) => stands = found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Memory;

    fn pause(why: &str) -> Pause {
        Pause::new(Timestamp::from_secs(7), "ann", why)
    }

    fn route(key: &str) -> RouteKey {
        RouteKey(key.into())
    }

    #[tokio::test]
    async fn a_route_is_paused_by_itself_or_with_all() {
        let store = Memory::new();
        let (weather, reports) = (route("GET /weather"), route("POST /reports"));
        let pauses = Pauses::pause(&store, &Scope::Route(weather.clone()), pause("prices")).await.expect("it works");
        assert_eq!(pauses.of(&weather).map(|pause| &*pause.why), Some("prices"));
        assert_eq!(pauses.of(&reports), None);
        Pauses::pause(&store, &Scope::All, pause("chain")).await.expect("it works");
        let pauses = Pauses::resume(&store, &Scope::Route(weather.clone()), pause("fixed")).await.expect("it works");
        assert_eq!(pauses.of(&weather).map(|pause| &*pause.why), Some("chain"), "all are paused still");
        let pauses = Pauses::resume(&store, &Scope::All, pause("over")).await.expect("it works");
        assert_eq!(Pauses::read(&store).await.expect("it works"), pauses);
        assert_eq!((pauses.each().count(), pauses.of(&weather)), (0, None));
    }

    #[tokio::test]
    async fn people_who_pause_at_the_same_time_do_not_undo_each_other() {
        let store = std::sync::Arc::new(Memory::new());
        let mut people = tokio::task::JoinSet::new();
        for number in 0..20 {
            let store = std::sync::Arc::clone(&store);
            people.spawn(async move {
                let scope = Scope::from(&*format!("GET /{number}"));
                Pauses::pause(&*store, &scope, pause("together")).await.map(drop)
            });
        }
        for ended in people.join_all().await {
            ended.expect("the store works");
        }
        assert_eq!(Pauses::read(&*store).await.expect("it works").each().count(), 20);
    }

    #[tokio::test]
    async fn what_cannot_be_read_pauses_everything_until_somebody_resumes() {
        for text in ["", "null", "{", r#"{"hosts": {}}"#, r#"{"all": {"since": 1}}"#] {
            let store = Memory::new();
            store.swap_cell(CELL, None, text.as_bytes()).await.expect("it works");
            let pauses = Pauses::read(&store).await.expect("it works");
            assert!(pauses.of(&route("GET /weather")).is_some(), "{text}");
            let pauses = Pauses::resume(&store, &Scope::All, pause("cleared")).await.expect("it works");
            assert_eq!(pauses.each().count(), 0, "{text}");
        }
    }

    #[tokio::test]
    async fn what_is_not_paused_is_not_resumed() {
        let store = Memory::new();
        let weather = Scope::from("GET /weather");
        let refused = Pauses::resume(&store, &Scope::All, pause("fixed")).await.expect_err("nothing is paused");
        assert_eq!(refused.to_string(), "all is not paused");
        Pauses::pause(&store, &Scope::All, pause("chain")).await.expect("it works");
        let refused = Pauses::resume(&store, &weather, pause("fixed")).await.expect_err("it is not paused by itself");
        assert_eq!(refused.to_string(), "GET /weather is not paused; `all` is");
        let pauses = Pauses::read(&store).await.expect("it works");
        assert_eq!((pauses.each().count(), pauses.resumed()), (1, None), "nothing was written");
    }

    #[tokio::test]
    async fn the_cell_stays_small() {
        let store = Memory::new();
        let scope = |number| Scope::from(&*format!("GET /{number}"));
        for number in 0..MOST_ROUTES {
            Pauses::pause(&store, &scope(number), pause("one by one")).await.expect("it works");
        }
        let refused = Pauses::pause(&store, &scope(MOST_ROUTES), pause("one more")).await;
        assert!(matches!(refused, Err(ChangeError::TooMany)), "{refused:?}");
        assert_eq!(pause(&"ä".repeat(9000)).why.chars().count(), MOST_WORDS);
    }
}
