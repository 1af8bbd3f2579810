//! The real binary, killed with SIGKILL at every step of a payment and started again on what it left. Facilitator,
//! chain, backend and client remember what happened; the ledger is held against them.

mod death;
mod story;
mod world;

use std::sync::Arc;

use tokio::task::JoinSet;
use tollhouse::testing::anvil::Anvil;

use death::{DEATHS, DEATHS_ON_CHAIN, Death};
use story::Story;
use world::{Store, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s21_killed_at_any_step_a_payment_in_a_file_moves_once_and_is_served() {
    everywhere(Store::Sqlite, &DEATHS, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s21_killed_at_any_step_a_payment_in_a_database_moves_once_and_is_served() {
    everywhere(Store::Postgres, &DEATHS, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s21_killed_around_its_own_transaction_a_payment_moves_once_on_the_chain_and_is_served() {
    let anvil = Arc::new(Anvil::start().await);
    let on_chain = |store| everywhere(store, &DEATHS_ON_CHAIN, Some(Arc::clone(&anvil)));
    tokio::join!(on_chain(Store::Sqlite), on_chain(Store::Postgres));
}

/// All at once: what takes time is waiting for what a dead process held to lapse.
async fn everywhere(store: Store, deaths: &[Death], chain: Option<Arc<Anvil>>) {
    let mut stories = JoinSet::new();
    for settle in ["on_response", "before_forward"] {
        let before_forward = settle == "before_forward";
        for death in deaths.iter().copied().filter(|death| !before_forward || death.happens_before_forward()) {
            let chain = chain.clone();
            stories.spawn(async move {
                // Of its own, so that a panic in it is told with its name.
                let story = tokio::spawn(async move {
                    let world = World::new(store, settle, chain).await;
                    Story::tell(&world, death, before_forward).await
                });
                let ended = story.await.unwrap_or_else(|panic| Err(panic.to_string()));
                ended.map_err(|wrong| format!("{store:?}, {settle}, {:?} {:?}: {wrong}", death.ends, death.trouble))
            });
        }
    }
    let ended = stories.join_all().await;
    let wrong: Vec<_> = ended.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} stories ended badly:\n{}", wrong.len(), wrong.join("\n"));
}
