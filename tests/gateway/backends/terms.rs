//! What a backend is told: its name, and who speaks to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tollhouse::config;
use tollhouse::server::Serving;
use tollhouse::testing::client::{Connection, Request};

use super::{free, gateway};
use crate::world::{File, World, assert_paid};

#[tokio::test]
async fn a_backend_hears_the_name_that_the_file_says() {
    let world = World::selling("GET /weather: $0.01").await;
    let url = world.backend.url();
    let own = url.trim_start_matches("http://").to_owned();
    for (policy, heard) in [("preserve", "api.test"), ("upstream", &*own), ("api.internal", "api.internal")] {
        let gateway = gateway(&world, &[&url], |file| file.upstream = format!(", host: {policy}")).await;
        assert_eq!(free(&gateway).await.status, 200);
        assert_eq!(world.backend.last().field("host"), Some(heard), "{policy}");
        let absolute = Request::get("http://api.test/free");
        assert_eq!(gateway.ask(&absolute).await.status, 200);
        let hit = world.backend.last();
        assert_eq!((hit.field("host"), &*hit.target), (Some(heard), "/free"), "{policy}");
    }
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).expect("the folder is ours");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

#[tokio::test]
async fn s45_s48_the_gateway_says_who_it_is_only_to_the_backend_and_nobody_else_can() {
    let world = World::selling("GET /weather: $0.01").await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    secret(&file, "Bearer own\n");
    let url = world.backend.url();
    let terms = |text: &mut File| {
        text.upstream = format!(", auth: {{header: Authorization, value: {{file: {}}}}}", file.display());
    };
    let gateway = gateway(&world, &[&url], terms).await;
    let sly = Request::get("/free").with("Authorization", "Bearer forged").with("connection", "authorization");
    let reply = gateway.ask(&sly).await;
    assert_eq!(reply.status, 200);
    assert!(!format!("{:?}", reply.fields).contains("Bearer"), "the client never sees it");
    let request = Request::get("/weather");
    let challenge = gateway.ask(&request).await;
    let now = tollhouse::primitives::Clock::now(&world.clock);
    let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
    assert_paid(&gateway.ask(&request.paying(&payment)).await);
    let hits = world.backend.requests();
    assert_eq!(hits.len(), 2, "what did not pass the gate went nowhere");
    for hit in hits {
        let sent: Vec<_> = hit.fields.get_all("authorization").iter().collect();
        assert_eq!(sent, ["Bearer own"]);
    }
}

#[tokio::test]
async fn s60_a_secret_that_is_replaced_on_disk_is_used_from_then_on() {
    let world = World::selling("GET /weather: $0.01").await;
    let folder = tempfile::tempdir().expect("a folder");
    let (token, path) = (folder.path().join("token"), folder.path().join("gateway.yaml"));
    secret(&token, "first\n");
    let mut file = File::selling(super::ROUTES);
    file.upstream = ", auth: {header: X-App-Key, value: {file: token}}".into();
    fs::write(&path, file.text(&world.facilitator, &world.backend.url())).expect("the folder is ours");
    let started = Serving::start(&path, config::load(&path)).await;
    let mut serving = started.unwrap_or_else(|error| panic!("{error}"));
    let address = serving.server().doors()[0].port().expect("it is a port");
    let heard = async || {
        let mut connection = Connection::open(address).await;
        connection.send(&Request::get("/free")).await;
        assert_eq!(connection.reply().await.status, 200);
        world.backend.last().field("x-app-key").map(str::to_owned)
    };
    assert_eq!(heard().await.as_deref(), Some("first"));
    let next = folder.path().join("next");
    secret(&next, "second\n");
    fs::rename(&next, &token).expect("the folder is ours");
    assert!(serving.change().await.is_some(), "the new secret is right");
    assert_eq!(heard().await.as_deref(), Some("second"));
    fs::remove_file(&token).expect("the file is ours");
    assert!(serving.change().await.is_none(), "there is no secret");
    assert_eq!(heard().await.as_deref(), Some("second"), "what was in force stays in force");
    assert!(serving.shut_down(Duration::from_secs(10)).await, "it ends in time");
}
