//! Who is not sold to is told so before anything is reserved or asked, and nobody else notices.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tollhouse::config;
use tollhouse::payment::Dialect;
use tollhouse::primitives::Clock;
use tollhouse::server::Serving;
use tollhouse::testing::client::{Connection, Reply, Request};
use tollhouse::testing::{Backend, ScriptedFacilitator, Wallet, facilitator};

use crate::world::{File, PAYEE, World, assert_invites, assert_no_invitation, assert_paid, assert_pending, edited};

const ROUTES: &str = "GET /weather: $0.01\nGET /health: free";
const STRANGER: &str = "0x2222222222222222222222222222222222222222";
const DAY: Duration = Duration::from_secs(86_400);

/// A list that tests write.
struct List {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl List {
    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let list = Self { path: folder.path().join("list.txt"), _folder: folder };
        list.write(text);
        list
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).expect("the folder is ours");
    }

    /// As if it had been written at this moment of the world.
    fn date(&self, world: &World) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(world.clock.now().as_millis());
        let file = fs::File::options().append(true).open(&self.path).expect("the list is there");
        file.set_modified(now).expect("the list is ours");
    }

    fn file(&self, more: &str) -> File {
        screening(&format!("payers: {{deny: [{{file: \"{}\", max_age: 7d}}]{more}}}", self.path.display()))
    }
}

fn screening(rules: &str) -> File {
    let mut file = File::selling(ROUTES);
    file.more = format!("screening:\n  {rules}");
    file
}

#[track_caller]
fn assert_screened(reply: &Reply, code: &str) {
    assert_no_invitation(reply, 403);
    assert_eq!((&reply.json()["detail"], &reply.json()["advice"]), (&code.into(), &"stop".into()));
    assert_eq!((reply.field("retry-after"), reply.settlement()), (None, None));
}

fn counted(world: &World, code: &str) -> Option<u64> {
    world.metric(&format!("tollhouse_refusals_total{{route=\"GET /weather\",reason=\"{code}\"}}"))
}

#[tokio::test]
async fn s35_i5_a_payer_on_a_list_is_told_so_and_nobody_is_asked() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file("")).await;
    let v1 = world.payment_for(&Request::get("/weather"), Dialect::V1).await;
    let v2 = world.payment("/weather").await;
    // Whose signature it is makes no difference, and is not found out.
    let forged = edited(&v2, |json| json["payload"]["authorization"]["value"] = "1".into());
    list.write(&format!("# spelled as others do\n{}\n", world.wallet.address().to_string().to_lowercase()));
    world.reload(|_| ()).await.expect("the list is right");
    for payment in [&v1, &v2, &forged] {
        assert_screened(&world.pay("/weather", payment).await, "payer_screened");
    }
    assert!(world.gateway.entries().await.is_empty(), "nothing was reserved");
    world.assert_untouched();
    assert_eq!(counted(&world, "payer_screened"), Some(3));
    assert_invites(&world.get("/weather").await);
    assert_eq!(world.get("/health").await.status, 200);

    world.wallet = Wallet::random();
    let of_somebody_else = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &of_somebody_else).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s35_nobody_is_asked_to_pay_an_account_on_a_list() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file("")).await;
    let payment = world.payment("/weather").await;
    list.write(PAYEE);
    world.reload(|_| ()).await.expect("the list is right");
    assert_screened(&world.get("/weather").await, "payee_screened");
    assert_screened(&world.pay("/weather", &payment).await, "payee_screened");
    assert_eq!(world.get("/health").await.status, 200);
    assert!(world.gateway.entries().await.is_empty(), "nothing was reserved");
}

#[tokio::test]
async fn s35_s64_a_list_that_cannot_be_used_leaves_the_last_one_in_force() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file("")).await;
    let payment = world.payment("/weather").await;
    let listed = world.wallet.address().to_string();
    list.write(&listed);
    world.reload(|_| ()).await.expect("the list is right");
    for broken in ["", "# nobody\n", &listed[..20], &format!("{STRANGER}\n{}", &listed[..41])] {
        list.write(broken);
        let report = world.reload(|_| ()).await.expect_err("it is no list");
        assert!(report.contains("error[TH3007]"), "{report}");
        assert_screened(&world.pay("/weather", &payment).await, "payer_screened");
    }
    fs::remove_file(&list.path).expect("the list is there");
    world.reload(|_| ()).await.expect_err("there is no list");
    assert_screened(&world.pay("/weather", &payment).await, "payer_screened");
    assert_eq!(world.metric(r#"tollhouse_config_reload_total{result="failed"}"#), Some(5));
    world.assert_untouched();

    list.write(STRANGER);
    world.reload(|_| ()).await.expect("the list is right");
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s35_while_a_list_is_stale_nothing_is_sold_and_free_routes_do_not_notice() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file("")).await;
    list.date(&world);
    world.reload(|_| ()).await.expect("the list is right");
    world.wait(DAY * 7);
    let payment = world.payment("/weather").await;
    world.wait(Duration::from_secs(1));
    for reply in [world.get("/weather").await, world.pay("/weather", &payment).await] {
        assert_no_invitation(&reply, 503);
        assert_eq!((reply.field("retry-after"), &reply.json()["advice"]), (Some("30"), &"try later".into()));
    }
    assert_eq!(world.get("/health").await.status, 200);
    assert_eq!(counted(&world, "list_stale"), Some(2));
    world.assert_counts(0, 1);
    world.reload(|_| ()).await.expect("an old list is no reason to keep old prices");
    let stale = format!("tollhouse_screening_list_stale{{list=\"{}\"}}", list.path.display());
    assert_eq!(world.metric(&stale), Some(1), "{}", world.gateway.metrics());
    assert_no_invitation(&world.get("/weather").await, 503);

    // Fetched anew, and the same as before.
    list.date(&world);
    world.reload(|_| ()).await.expect("the list is right");
    assert_paid(&world.pay("/weather", &payment).await);
    assert_eq!(world.metric(&stale), Some(0));
}

#[tokio::test]
async fn s35_a_stale_list_may_go_on_being_used() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file(", when_stale: warn")).await;
    list.write(&format!("{STRANGER}\n{}\n", world.wallet.address()));
    list.date(&world);
    world.reload(|_| ()).await.expect("the list is right");
    world.wait(DAY * 8);
    let payment = world.payment("/weather").await;
    assert_screened(&world.pay("/weather", &payment).await, "payer_screened");
    world.wallet = Wallet::random();
    let of_somebody_else = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &of_somebody_else).await);
}

#[tokio::test]
async fn s35_i3_money_that_moved_before_its_payer_was_listed_stays_accounted_for() {
    let list = List::of(STRANGER);
    let mut world = World::of(list.file("")).await;
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    let payment = world.payment("/weather").await;
    assert_pending(&world.pay("/weather", &payment).await);
    list.write(&world.wallet.address().to_string());
    world.reload(|_| ()).await.expect("the list is right");
    assert_screened(&world.pay("/weather", &payment).await, "payer_screened");
    world.wait(Duration::from_secs(2));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_screened(&world.pay("/weather", &payment).await, "payer_screened");
    assert_eq!(world.facilitator.settlements(), 1);
}

#[tokio::test]
async fn s35_clients_are_told_apart_by_the_address_of_their_connection() {
    for (rules, sold) in [
        ("clients: {deny: [127.0.0.0/8]}", false),
        ("clients: {deny: [\"::ffff:127.0.0.1\"]}", false),
        ("clients: {deny: [203.0.113.0/24]}", true),
        ("clients: {allow: [127.0.0.1]}", true),
        ("clients: {allow: [203.0.113.0/24]}", false),
        ("clients: {allow: [127.0.0.0/8], deny: [127.0.0.1/32]}", false),
    ] {
        let world = World::of(screening(rules)).await;
        // What a client says of its own address counts for nothing.
        let spoofed = Request::get("/weather").with("x-forwarded-for", "203.0.113.1").with("x-real-ip", "203.0.113.1");
        let reply = world.ask(&spoofed).await;
        if sold {
            assert_invites(&reply)
        } else {
            assert_screened(&reply, "client_screened")
        }
        assert_eq!(world.get("/health").await.status, 200);
        world.assert_counts(0, 1);
    }
}

#[tokio::test]
async fn s35_a_country_is_believed_from_nobody_but_the_proxies_that_are_named() {
    let rules = |from: &str| screening(&format!("countries: {{header: CF-IPCountry, from: [{from}], deny: [XX, kp]}}"));
    let from = |country: &str| Request::get("/weather").with("cf-ipcountry", country);
    let world = World::of(rules("127.0.0.0/8")).await;
    assert_invites(&world.ask(&from("DE")).await);
    for country in ["KP", "kp", "XX"] {
        assert_screened(&world.ask(&from(country)).await, "country_screened");
    }
    for unclear in [Request::get("/weather"), from(""), from("DE, KP"), from("KP").with("CF-IPCountry", "DE")] {
        assert_screened(&world.ask(&unclear).await, "country_unknown");
    }
    assert_eq!(world.get("/health").await.status, 200);

    let world = World::of(rules("203.0.113.0/24")).await;
    for country in ["DE", "KP"] {
        assert_screened(&world.ask(&from(country)).await, "country_unknown");
    }
}

#[tokio::test]
async fn s35_a_list_that_is_written_is_in_force_without_anybody_asking_for_it() {
    let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
    let list = List::of(STRANGER);
    let path = list.path.with_file_name("gateway.yaml");
    fs::write(&path, list.file("").text(&facilitator, &backend.url())).expect("the folder is ours");
    let started = Serving::start(&path, config::load(&path)).await;
    let mut serving = started.unwrap_or_else(|error| panic!("{error}"));
    let status = async |serving: &Serving| {
        let mut connection = Connection::open(serving.server().doors()[0].port().expect("it is a port")).await;
        connection.send(&Request::get("/weather")).await;
        connection.reply().await.status
    };
    assert_eq!(status(&serving).await, 402);
    list.write(&format!("{PAYEE}\n"));
    assert!(serving.change().await.is_some(), "the list is right");
    assert_eq!(status(&serving).await, 403);
    fs::remove_file(&list.path).expect("the list is there");
    assert!(serving.change().await.is_none(), "there is no list");
    assert_eq!(status(&serving).await, 403);
    list.write(&format!("{STRANGER}\n"));
    assert!(serving.change().await.is_some(), "it is back");
    assert_eq!(status(&serving).await, 402);
    assert!(serving.shut_down(Duration::from_secs(10)).await, "it ends in time");
}
