//! Facilitators from their descriptions.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio::task::{AbortHandle, JoinSet};

use crate::config;
use crate::facilitator::chain::{Chain, CheckError, Found, Unused, Verdict};
use crate::facilitator::local::{Desk, Held, Local, Notes, Setup, Signer as _};
use crate::facilitator::sandbox::{Behaviour, Sandbox};
use crate::facilitator::wallets::Accepted;
use crate::facilitator::{
    self, BoxError, BreakerConfig, Facilitator, Guarded, Kind, Means, Remote, Tell, Witness, Witnessed,
};
use crate::payment::{Payment, TransactionHash};
use crate::primitives::{Address, Asset, Caip2, Clock, Payee, Timestamp};
use crate::tariff::{Charge, Toll};

use super::StartError;

/// How long the nodes of a chain may take over all the checks at start.
const CHECK: Duration = Duration::from_secs(10);

/// The facilitators in force, each with the description it was made from.
pub(super) struct Facilitators {
    members: Vec<Member>,
    desks: Desks,
    chains: Chains,
    tell: Tell,
}

/// The chains that are looked at, one for each set of nodes. Whoever surveys them reads this.
pub(super) type Chains = Arc<ArcSwap<Vec<Watched>>>;

/// A set of nodes, and which part of the file names it.
#[derive(Clone)]
pub(super) struct Watched {
    /// `networks`, or a facilitator's name.
    pub(super) named_in: Arc<str>,
    pub(super) chain: Arc<Chain>,
}

/// The desks of gas keys. A desk outlives reloads: within a process, everybody who uses a key uses the same one.
struct Desks {
    notes: Arc<dyn Notes>,
    open: HashMap<(Caip2, Address), Weak<Desk>>,
}

impl Desks {
    /// The desk of a key on a network.
    fn of(&mut self, network: &Caip2, signer: Held, clock: &Arc<dyn Clock>) -> Arc<Desk> {
        self.open.retain(|_, desk| desk.strong_count() > 0);
        let key = (network.clone(), signer.address());
        if let Some(desk) = self.open.get(&key).and_then(Weak::upgrade) {
            return desk;
        }
        let desk = Arc::new(Desk::new(network, Arc::new(signer), Arc::clone(&self.notes), Arc::clone(clock)));
        self.open.insert(key, Arc::downgrade(&desk));
        desk
    }
}

struct Member {
    config: facilitator::Config,
    breaker: BreakerConfig,
    /// Without its breakers.
    bare: Arc<dyn Facilitator>,
    facilitator: Arc<dyn Facilitator>,
    /// The chain it looks at itself.
    chain: Option<Arc<Chain>>,
    /// The nodes that its word is checked on, and how deep transfers have to lie there.
    witness: (facilitator::Nodes, facilitator::Depths),
    refreshing: Option<AbortHandle>,
}

impl Facilitators {
    /// None yet. Gas keys take down what they send in these notes; `tell` hears what happens to those to come.
    pub(super) fn over(notes: Arc<dyn Notes>, tell: Tell) -> Self {
        let desks = Desks { notes, open: HashMap::new() };
        Self { members: Vec::new(), desks, chains: Chains::default(), tell }
    }

    /// The chains of the configuration in force.
    pub(super) fn chains(&self) -> Chains {
        Arc::clone(&self.chains)
    }

    /// The contract wallets to accept, with the nodes to ask: the network's own, else those of a facilitator of ours.
    pub(super) fn accepted(&self, factories: &facilitator::Factories) -> HashMap<Caip2, Accepted> {
        let chains = self.chains.load();
        let chain = |network: &Caip2| {
            let watched = chains.iter().find(|watched| watched.chain.network() == network)?;
            Some(Arc::clone(&watched.chain))
        };
        let accepted = |(network, factories): (&Caip2, &Vec<Address>)| {
            (network.clone(), Accepted { factories: factories.clone(), chain: chain(network) })
        };
        factories.iter().map(accepted).collect()
    }

    /// Lets every gas key go, so that the next process need not wait for the leases to lapse.
    pub(super) async fn close(&mut self) {
        for member in &mut self.members {
            if let Some(refreshing) = member.refreshing.take() {
                refreshing.abort();
            }
        }
        for desk in self.desks.open.values().filter_map(Weak::upgrade) {
            desk.close().await;
        }
    }

    /// Makes what the file describes. One whose description did not change stays as it is, with all it knows; one
    /// that is gone stops refreshing what it knows but can still be asked how its settlements ended.
    pub(super) fn adopt(
        &mut self,
        live: &config::Live,
        clock: &Arc<dyn Clock>,
    ) -> Result<Vec<Arc<dyn Facilitator>>, StartError> {
        let witness = Nodes::new(live, clock)?;
        let mut before = std::mem::take(&mut self.members);
        let mut now = Vec::new();
        for config in &live.facilitators {
            let witness_of = witness_of(config, live);
            let same = |member: &Member| member.config == *config && member.witness == witness_of;
            let member = match before.iter().position(same).map(|at| before.swap_remove(at)) {
                Some(member) if member.breaker == live.breaker => member,
                Some(member) => Member {
                    breaker: live.breaker,
                    facilitator: self.guarded(&member.bare, config, live.breaker, clock),
                    ..member
                },
                None => match make(config, live, &witness, &mut self.desks, clock) {
                    Ok((bare, chain)) => {
                        let facilitator = self.guarded(&bare, config, live.breaker, clock);
                        let (config, breaker) = (config.clone(), live.breaker);
                        Member { config, witness: witness_of, breaker, bare, facilitator, chain, refreshing: None }
                    }
                    Err(source) => {
                        now.append(&mut before);
                        self.members = now;
                        return Err(StartError::Facilitator { name: config.name.to_string(), source });
                    }
                },
            };
            now.push(member);
        }
        for gone in before {
            if let Some(refreshing) = gone.refreshing {
                refreshing.abort();
            }
        }
        for member in now.iter_mut().filter(|member| member.refreshing.is_none()) {
            let facilitator = Arc::clone(&member.facilitator);
            member.refreshing = Some(tokio::spawn(async move { facilitator.refresh().await }).abort_handle());
        }
        self.members = now;
        let named = |named_in: &Arc<str>, chain: &Arc<Chain>| Watched {
            named_in: Arc::clone(named_in),
            chain: Arc::clone(chain),
        };
        let networks: Arc<str> = "networks".into();
        let own = self.members.iter().filter_map(|member| Some(named(&member.config.name, member.chain.as_ref()?)));
        let all = witness.0.iter().map(|chain| named(&networks, chain)).chain(own).collect();
        self.chains.store(Arc::new(all));
        Ok(self.members.iter().map(|member| Arc::clone(&member.facilitator)).collect())
    }

    /// The same behind breakers. Play money needs none: it depends on nothing outside this process.
    fn guarded(
        &self,
        bare: &Arc<dyn Facilitator>,
        config: &facilitator::Config,
        breaker: BreakerConfig,
        clock: &Arc<dyn Clock>,
    ) -> Arc<dyn Facilitator> {
        match config.kind {
            Kind::Sandbox => Arc::clone(bare),
            Kind::Remote { .. } | Kind::Local { .. } => {
                let (bare, clock, tell) = (Arc::clone(bare), Arc::clone(clock), Arc::clone(&self.tell));
                Arc::new(Guarded::new(bare, config, breaker, clock, tell))
            }
        }
    }
}

/// What a facilitator elsewhere is held against: with other nodes its word is worth something else.
fn witness_of(config: &facilitator::Config, live: &config::Live) -> (facilitator::Nodes, facilitator::Depths) {
    if !matches!(config.kind, Kind::Remote { .. }) {
        return Default::default();
    }
    let own = |network: &Caip2| config.networks.contains(network);
    let (mut nodes, mut depths) = (live.nodes.clone(), live.confirmations.clone());
    nodes.retain(|network, _| own(network));
    depths.retain(|network, _| own(network));
    (nodes, depths)
}

impl Drop for Facilitators {
    fn drop(&mut self) {
        for member in &self.members {
            if let Some(refreshing) = &member.refreshing {
                refreshing.abort();
            }
        }
    }
}

/// A facilitator, and the chain that it looks at itself.
type Made = (Arc<dyn Facilitator>, Option<Arc<Chain>>);

fn make(
    config: &facilitator::Config,
    live: &config::Live,
    witness: &Arc<Nodes>,
    desks: &mut Desks,
    clock: &Arc<dyn Clock>,
) -> Result<Made, BoxError> {
    Ok(match &config.kind {
        Kind::Remote { .. } => {
            let witness = Some(Arc::clone(witness) as Arc<dyn Witness>);
            (Arc::new(Remote::new(config, witness, Arc::clone(clock))?), None)
        }
        Kind::Local { rpc, signer, max_gas_price, alarm_below, coin_price, confirmations } => {
            let network = config.networks.first().ok_or("it names no network")?;
            let chain = Chain::connect(network.clone(), rpc, Arc::clone(clock))?.confirming(confirmations.clone());
            let chain = Arc::new(chain);
            let setup = Setup {
                name: Arc::clone(&config.name),
                chain: Arc::clone(&chain),
                desk: desks.of(network, Held::new(signer)?, clock),
                max_gas_price: *max_gas_price,
                alarm_below: *alarm_below,
                coin_price: *coin_price,
                verify_timeout: config.verify_timeout,
                settle_timeout: config.settle_timeout,
            };
            (Arc::new(Local::new(setup, &payees(live), Arc::clone(clock))?), Some(chain))
        }
        Kind::Sandbox => {
            let behaviour = Behaviour { settle_timeout: config.settle_timeout, ..Behaviour::default() };
            (Arc::new(Sandbox::new(Arc::clone(&config.name), Arc::clone(clock), behaviour)), None)
        }
    })
}

/// Everyone the file pays: no key of ours may be theirs (S59).
fn payees(live: &config::Live) -> Vec<Payee> {
    tolls(live).flat_map(|toll| toll.offers.iter().map(|offer| offer.pay_to)).collect()
}

/// Whether every node serves the chain it is configured for and every token takes what is signed for it there (S9).
/// A node that does not answer says nothing; it is asked again with every payment.
/// All of them are asked at once: with several networks of silent nodes a start would otherwise take minutes.
pub(super) async fn check_chains(live: &config::Live, clock: &Arc<dyn Clock>) -> Result<(), StartError> {
    let mut checks = JoinSet::new();
    let own = live.facilitators.iter().filter_map(|config| match &config.kind {
        Kind::Local { rpc, .. } => Some((config.networks.first()?, rpc)),
        Kind::Remote { .. } | Kind::Sandbox => None,
    });
    for (network, addresses) in live.nodes.iter().chain(own) {
        let wrong = |source: BoxError| StartError::Chain { network: network.clone(), source };
        let chain =
            Chain::connect(network.clone(), addresses, Arc::clone(clock)).map_err(|error| wrong(error.into()))?;
        checks.spawn(check_chain(chain, assets_on(live, network)));
    }
    // What is left is aborted when one is wrong, or nobody waits any more.
    while let Some(checked) = checks.join_next().await {
        checked.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    }
    Ok(())
}

async fn check_chain(chain: Chain, assets: Vec<Arc<Asset>>) -> Result<(), StartError> {
    let network = chain.network();
    let all = async {
        for asset in &assets {
            chain.check(asset).await?;
        }
        Ok(())
    };
    match tokio::time::timeout(CHECK, all).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(CheckError::NoAnswer { .. })) | Err(_) => {
            tracing::warn!(network = network.as_str(), "no node answers; the chain could not be checked");
            Ok(())
        }
        Ok(Err(error)) => Err(StartError::Chain { network: network.clone(), source: error.into() }),
    }
}

/// What the file asks to be paid in on a network.
fn assets_on(live: &config::Live, network: &Caip2) -> Vec<Arc<Asset>> {
    let mut assets: Vec<Arc<Asset>> = Vec::new();
    for toll in tolls(live) {
        for offer in toll.offers.iter().filter(|offer| offer.network.id == *network) {
            if !assets.contains(&offer.asset) {
                assets.push(Arc::clone(&offer.asset));
            }
        }
    }
    assets
}

fn tolls(live: &config::Live) -> impl Iterator<Item = &Arc<Toll>> {
    live.tariff.routes().filter_map(|route| match &route.charge {
        Charge::Toll(toll) => Some(toll),
        Charge::Free | Charge::Deny => None,
    })
}

/// Our own nodes, for a look at what a facilitator says it did (S16).
struct Nodes(Vec<Arc<Chain>>);

impl Nodes {
    fn new(live: &config::Live, clock: &Arc<dyn Clock>) -> Result<Arc<Self>, StartError> {
        let chains = live.nodes.iter().map(|(network, addresses)| {
            let connected = Chain::connect(network.clone(), addresses, Arc::clone(clock));
            let depth = live.confirmations.get(network).cloned().unwrap_or_default();
            connected
                .map(|chain| Arc::new(chain.confirming(depth)))
                .map_err(|error| StartError::Facilitator { name: format!("rpc of {network}"), source: error.into() })
        });
        Ok(Arc::new(Self(chains.collect::<Result<_, _>>()?)))
    }

    fn of(&self, network: &Caip2) -> Option<&Chain> {
        self.0.iter().find(|chain| chain.network() == network).map(|chain| &**chain)
    }
}

#[async_trait]
impl Witness for Nodes {
    fn watches(&self, network: &Caip2) -> bool {
        self.of(network).is_some()
    }

    async fn witnessed(&self, payment: &Payment, transaction: TransactionHash) -> Result<Witnessed, BoxError> {
        let Some(chain) = self.of(&payment.offer.network.id) else { return Ok(Witnessed::NotYet) };
        Ok(match chain.transfer_in(transaction, payment).await? {
            Found::Yes { block, .. } => Witnessed::Yes { block },
            Found::No(why) => Witnessed::No(why.to_string()),
            Found::Shallow { .. } | Found::NotYet => Witnessed::NotYet,
        })
    }

    async fn settlement(&self, payment: &Payment, reserved_at: Timestamp) -> Verdict {
        match self.of(&payment.offer.network.id) {
            Some(chain) => chain.find_settlement(payment, reserved_at).await,
            None => Verdict::CannotTell("there is no node of this network".into()),
        }
    }

    async fn unused(&self, network: &Caip2, payments: &[&Payment]) -> Result<Vec<Unused>, BoxError> {
        let chain = self.of(network).ok_or("there is no node of this network")?;
        Ok(chain.unused(payments).await?)
    }

    async fn means(&self, payment: &Payment) -> Result<Means, BoxError> {
        let chain = self.of(&payment.offer.network.id).ok_or("there is no node of this network")?;
        let signed = payment.authorization.permit2().ok_or("it is no payment through Permit2")?;
        Ok(chain.means(signed.token, signed.from, signed.nonce).await?)
    }
}
