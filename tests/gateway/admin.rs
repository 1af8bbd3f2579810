//! What operators may do through the admin API (S62). Every byte goes over a real socket.

mod dawdlers;
mod strangers;

use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tollhouse::primitives::Place;
use tollhouse::testing::client::Request;

use crate::failure::Refusing;
use crate::world::{File, World, assert_invites, assert_no_invitation, assert_paid};

const ROUTES: &str = "GET /weather: $0.01\nGET /reports: $1\nGET /health: free";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A gateway with an admin API, and a folder that belongs to it.
struct House {
    world: World,
    folder: tempfile::TempDir,
}

/// What came back, until the connection was closed.
#[derive(Debug)]
struct Heard {
    status: u16,
    head: String,
    body: Value,
}

impl House {
    /// With a port of its own and a token.
    async fn with_port() -> Self {
        Self::with("{address: 127.0.0.1:0, token: {file: TOKEN}}", |_| {}).await
    }

    async fn with_socket() -> Self {
        Self::with("{address: \"unix:SOCKET\"}", |_| {}).await
    }

    async fn with(admin: &str, change: impl FnOnce(&mut File)) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder for the test");
        let token = folder.path().join("token");
        std::fs::write(&token, TOKEN).expect("the folder is ours");
        std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
        let socket = folder.path().join("admin.sock").display().to_string();
        let mut file = File::selling(ROUTES);
        let admin = admin.replace("TOKEN", &token.display().to_string()).replace("SOCKET", &socket);
        file.more = format!("admin: {admin}");
        change(&mut file);
        Self { world: World::of(file).await, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    /// Sends this to the admin API, and returns what it said until it closed the connection.
    async fn heard(&self, bytes: &[u8]) -> String {
        match self.world.gateway.admin().expect("its file has one") {
            Place::Port(address) => exchange(TcpStream::connect(address).await.expect("it listens"), bytes).await,
            Place::Socket(path) => exchange(UnixStream::connect(path).await.expect("it listens"), bytes).await,
        }
    }

    /// The same for what is answered.
    async fn say(&self, bytes: &[u8]) -> Heard {
        let heard = self.heard(bytes).await;
        read(&heard).unwrap_or_else(|| panic!("no answer: {heard}"))
    }

    /// What is paused, as the ledger has it.
    async fn paused(&self) -> Vec<Value> {
        let heard = self.say(&asking("/pauses").bytes()).await;
        assert_eq!(heard.status, 200, "{heard:?}");
        heard.body["pauses"].as_array().expect("a list").clone()
    }

    /// Nothing is paused here, and the world has not heard of any of it.
    async fn assert_sells(&self) {
        assert_invites(&self.world.get("/weather").await);
        assert_eq!(self.paused().await, Vec::<Value>::new());
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    // A server that hangs up in the middle of a body has answered before.
    let _ = stream.write_all(bytes).await;
    let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
    let all = async {
        while let Ok(length @ 1..) = stream.read(&mut piece).await {
            heard.extend_from_slice(&piece[..length]);
        }
    };
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, all).await.expect("the connection is closed after one answer");
    String::from_utf8(heard).expect("it answers in text")
}

fn read(heard: &str) -> Option<Heard> {
    let (head, body) = heard.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Heard { status, head: head.to_ascii_lowercase(), body: serde_json::from_str(body).ok()? })
}

fn asking(path: &str) -> Request {
    Request::get(path).to_host("127.0.0.1:9403").with("authorization", format!("Bearer {TOKEN}"))
}

fn order(path: &str, body: &Value) -> Request {
    Request::post(path, &body.to_string())
        .to_host("localhost")
        .with("authorization", format!("Bearer {TOKEN}"))
        .with("content-type", "application/json")
}

fn words(route: &str, why: &str) -> Value {
    json!({"route": route, "why": why})
}

/// Nothing that a page could read, and why it was refused.
#[track_caller]
fn assert_refused(heard: &Heard, status: u16, error: &str) {
    assert_eq!((heard.status, heard.body["error"].as_str()), (status, Some(error)), "{heard:?}");
    assert!(heard.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{heard:?}");
    assert!(!heard.head.contains("access-control-"), "{heard:?}");
    assert!(heard.head.contains("cache-control: no-store"), "{heard:?}");
}

#[tokio::test]
async fn s62_an_operator_pauses_a_route_at_once_and_resumes_it() {
    let house = House::with_port().await;
    let world = &house.world;
    let payment = world.payment("/weather").await;
    house.assert_sells().await;

    let heard = house.say(&order("/pause", &words("GET /weather", "the oracle is wrong")).bytes()).await;
    assert_eq!(heard.status, 200, "{heard:?}");
    assert_no_invitation(&world.get("/weather").await, 503);
    assert_no_invitation(&world.pay("/weather", &payment).await, 503);
    world.assert_untouched();
    assert_invites(&world.get("/reports").await);
    assert_eq!(world.get("/health").await.status, 200);
    assert_eq!(world.metric("tollhouse_paused{route=\"GET /weather\"}"), Some(1));
    let since = "2026-01-01T00:00:00.000Z";
    let stands = json!({
        "route": "GET /weather", "since": since, "by": "admin token, 127.0.0.1", "why": "the oracle is wrong",
    });
    assert_eq!((&heard.body["pauses"], house.paused().await), (&json!([stands]), vec![stands.clone()]));

    let heard = house.say(&order("/resume", &words("all", "it is right again")).bytes()).await;
    let resumed = json!({"at": since, "by": "admin token, 127.0.0.1", "why": "it is right again"});
    assert_eq!((heard.status, &heard.body), (200, &json!({"pauses": [], "last_resumed": resumed})));
    assert_paid(&world.pay("/weather", &payment).await);
    house.assert_sells().await;
}

#[tokio::test]
async fn s62_everything_with_a_price_is_paused_through_the_socket_and_its_user_is_on_record() {
    let house = House::with_socket().await;
    let world = &house.world;
    let unlocked = |path: &str| {
        Request::post(path, &words("all", "an incident").to_string())
            .to_host("localhost")
            .with("content-type", "application/json; charset=utf-8")
    };
    let heard = house.say(&unlocked("/pause").bytes()).await;
    assert_eq!(heard.status, 200, "{heard:?}");
    let by = format!("uid {}", rustix::process::geteuid().as_raw());
    assert_eq!(house.paused().await[0]["by"], by);
    assert_no_invitation(&world.get("/weather").await, 503);
    assert_no_invitation(&world.get("/reports").await, 503);
    assert_eq!(world.get("/health").await.status, 200);
    let not_alone = house.say(&order("/resume", &words("GET /weather", "only this")).bytes()).await;
    assert_refused(&not_alone, 404, "not_paused");
    assert_eq!(not_alone.body["detail"], "GET /weather is not paused; `all` is");
    assert_eq!(house.say(&unlocked("/resume").bytes()).await.status, 200);
    house.assert_sells().await;

    let socket = house.socket();
    assert!(socket.exists());
    assert!(house.world.gateway.stop().await, "it ends in time");
    assert!(!socket.exists());
}

#[tokio::test]
async fn s62_a_route_that_nobody_sells_is_not_paused_and_the_nearest_is_named() {
    let house = House::with_port().await;
    for (route, meant) in
        [("GET /wether", "GET /weather"), ("/reports", "GET /reports"), ("GET /health", "GET /weather")]
    {
        let heard = house.say(&order("/pause", &words(route, "prices")).bytes()).await;
        assert_refused(&heard, 404, "not_sold");
        let detail = format!("the file sells no route `{route}`; did you mean `{meant}`?");
        assert_eq!(heard.body["detail"], detail);
    }
    assert_refused(&house.say(&order("/resume", &words("all", "x")).bytes()).await, 404, "not_paused");
    house.assert_sells().await;
}

#[tokio::test]
async fn s62_what_the_ledger_does_not_write_is_not_called_done() {
    let folder = tempfile::tempdir().expect("a folder for the ledger");
    let path = folder.path().join("ledger.db");
    let ledger = format!("sqlite:{}", path.display());
    let house = House::with("{address: \"unix:SOCKET\"}", |file| file.ledger = ledger).await;
    let refusing = Refusing::at(&path, "INSERT ON cells");
    let pause = order("/pause", &words("all", "an incident")).bytes();
    assert_refused(&house.say(&pause).await, 503, "outcome_unknown");
    assert_invites(&house.world.get("/weather").await);
    refusing.relent();
    assert_eq!(house.say(&pause).await.status, 200);
    assert_no_invitation(&house.world.get("/weather").await, 503);
}

#[tokio::test]
async fn people_who_pause_at_once_through_both_doors_do_not_undo_each_other() {
    let house = House::with_port().await;
    let weather = order("/pause", &words("GET /weather", "one")).bytes();
    let reports = order("/pause", &words("GET /reports", "other")).bytes();
    let gate = house.world.gateway.gate();
    for _ in 0..20 {
        let (one, other, looked) = tokio::join!(house.say(&weather), house.say(&reports), gate.look_at_rails());
        looked.expect("the ledger works");
        assert_eq!((one.status, other.status), (200, 200));
        assert_no_invitation(&house.world.get("/weather").await, 503);
        assert_no_invitation(&house.world.get("/reports").await, 503);
        assert_eq!(house.say(&order("/resume", &words("all", "again")).bytes()).await.status, 200);
        assert_invites(&house.world.get("/weather").await);
    }
}

#[tokio::test]
async fn another_door_or_another_token_waits_for_a_restart() {
    let mut house = House::with_port().await;
    std::fs::write(house.folder.path().join("token"), "another-token-another-token").expect("the folder is ours");
    house.world.reload(|_| {}).await.expect("the file is right");
    assert_eq!(house.world.metric("tollhouse_restart_needed"), Some(1));
    assert_eq!(house.say(&asking("/pauses").bytes()).await.status, 200, "the token it was started with");
}
