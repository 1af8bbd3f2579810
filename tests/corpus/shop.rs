//! A gateway in front of the four toys, each under a host of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::client::Request;
use tollhouse::testing::{Gateway, Wallet};

use crate::script::{Alias, Forwarded, Script};
use crate::toy::{Arrived, MARK, Manner, Toy};

/// Whatever is not recognised as something for sale is free, so nothing but recognising it protects it.
const ROUTES: &str = "
      /secret: $1
      /v1/reports/{id}: $2
      /Big/Report: $1
      /closed/**: deny
      /prefixed/**: {price: free, strip_prefix: /prefixed, add_prefix: /behind/it}
      /packages/{name}: {price: free, encoded_slash: keep}
      /packages/{name}/secret: $1
      /**: free";
const ROUTES_WITHOUT_SLASHES: &str = "
      /secret: $1
      /v1/reports/{id}: $2
      /Big/Report/: $1
      /closed/**: deny
      /**: free";
/// Fields that tell a backend about the client and are nobody's business here.
const ADDED: [&str; 6] = ["x-forwarded-", "forwarded:", "via:", "x-real-ip:", "x-request-id:", "traceparent:"];

pub struct Shop {
    gateway: Gateway,
    toys: Vec<Toy>,
    wallet: Wallet,
}

impl Shop {
    pub async fn open() -> Self {
        Self::selling("", ROUTES).await
    }

    /// One that speaks HTTP/2 too, in plaintext.
    pub async fn with_http2() -> Self {
        Self::selling("listen: [{address: \"127.0.0.1:0\", h2c: true}]", ROUTES).await
    }

    /// One where a slash at the end makes no difference.
    pub async fn without_slashes() -> Self {
        Self::selling("defaults: {trailing_slash: same}", ROUTES_WITHOUT_SLASHES).await
    }

    /// With these lines in its file.
    async fn selling(more: &str, routes: &str) -> Self {
        let mut toys = Vec::new();
        let mut hosts = String::new();
        for manner in Manner::ALL {
            let toy = Toy::start(manner).await;
            hosts += &host(manner.host(), &toy.url(), routes);
            toys.push(toy);
        }
        Self::with(more, &hosts, toys).await
    }

    /// One in front of a single backend that is not ours, as `nginx.test`.
    pub async fn before(url: &str) -> Self {
        Self::with("", &host("nginx.test", url, ROUTES), Vec::new()).await
    }

    async fn with(more: &str, hosts: &str, toys: Vec<Toy>) -> Self {
        let listen = if more.contains("listen:") { "" } else { "listen: 127.0.0.1:0\n" };
        let text = format!(
            "version: 1\npublic_url: http://api.test\n{listen}status: none\npay_to: sandbox\nledger: memory\n{more}\nhosts:\n{hosts}"
        );
        Self { gateway: Gateway::start(&text, Arc::new(SystemClock)).await, toys, wallet: Wallet::random() }
    }

    /// Where it is open.
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// What has arrived at its backends since the last time.
    pub fn take(&self) -> Vec<Arrived> {
        self.toys.iter().flat_map(Toy::take).collect()
    }

    /// What is wrong with how an alias is answered by a toy, if anything is.
    pub async fn try_alias(&self, manner: Manner, alias: &Alias) -> Option<String> {
        let wrong = self.try_alias_at(manner.host(), alias).await;
        let arrived = self.take();
        let told = |what: String| Some(format!("{} at {manner:?}: {what}", alias.place));
        let target = at_host(alias.forwarded.as_ref().unwrap_or(&alias.target), manner.host());
        let line = [&alias.method[..], b" ", &target, b" HTTP/1.1"].concat();
        match (&arrived[..], alias.status) {
            _ if wrong.is_some() => wrong,
            ([], status) if status != Some(200) => None,
            ([_, ..], None) => None,
            ([one], Some(200)) if one.head[0] == line => None,
            (arrived, _) => told(format!("the backend was asked {:?}", arrived.iter().map(shown).collect::<Vec<_>>())),
        }
    }

    /// The same for whichever backend, by the answer alone.
    pub async fn try_alias_at(&self, host: &str, alias: &Alias) -> Option<String> {
        let target = at_host(&alias.target, host);
        let head = [&alias.method[..], b" ", &target, b" HTTP/1.1\r\nHost: ", host.as_bytes(), b"\r\n\r\n"];
        let mut client = self.gateway.connect().await;
        client.write(&head.concat()).await;
        client.heads_only(alias.method == b"HEAD");
        let reply = client.try_reply().await;
        let told = |what: String| Some(format!("{} at {host}: {what}", alias.place));
        match (reply, alias.status) {
            (Some(reply), _) if reply.text().contains(MARK) => told("was given what is for sale".into()),
            (Some(reply), Some(status)) if reply.status != status && (status != 200 || reply.status >= 500) => {
                told(format!("{} and not {status}: {}", reply.status, reply.text()))
            }
            (None, Some(status)) => told(format!("no answer and not {status}")),
            _ => None,
        }
    }

    /// Whether whoever pays gets what is for sale.
    pub async fn sells(&self, host: &str) -> bool {
        let request = Request::get("/secret").to_host(host);
        let payment = self.payment(&request).await.expect("an offer");
        let reply = self.gateway.ask(&request.with("payment-signature", payment)).await;
        drop(self.take());
        reply.text().contains(MARK)
    }

    /// Sends the bytes of a script; what is different from what it says.
    pub async fn play(&self, script: &Script) -> Vec<String> {
        // The name of one that hangs is the last that is printed.
        eprintln!("{}", script.name);
        let mut wrong = Vec::new();
        let sent = self.filled(&script.sent).await;
        let paid = sent != script.sent;
        let mut client = self.gateway.connect().await;
        client.write(&sent).await;
        client.heads_only(sent.starts_with(b"HEAD "));
        if script.half_closed {
            client.half_close().await;
        }
        let mut statuses = Vec::new();
        while statuses.len() < script.answers.len()
            && let Some(reply) = client.try_reply().await
        {
            statuses.push(reply.status);
            if !paid && reply.text().contains(MARK) {
                wrong.push(format!("{}: was given what is for sale", script.name));
            }
        }
        client.half_close().await;
        while let Some(reply) = client.try_reply().await {
            statuses.push(reply.status);
        }
        if statuses != script.answers {
            wrong.push(format!("{}: answered {statuses:?} and not {:?}", script.name, script.answers));
        }
        let arrived: Vec<Arrived> = self.take().into_iter().map(without_added).collect();
        let alike = arrived.len() == script.forwarded.len()
            && arrived.iter().zip(&script.forwarded).all(|(arrived, expected)| is(arrived, expected));
        if !alike {
            let arrived: Vec<String> = arrived.iter().map(shown).collect();
            wrong.push(format!("{}: the backend was asked {arrived:#?}", script.name));
        }
        wrong
    }

    /// The bytes with a payment for the request they begin with in place of `{payment}`.
    async fn filled(&self, sent: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(sent) else { return sent.to_vec() };
        if !text.contains("{payment}") {
            return sent.to_vec();
        }
        let mut words = text.split([' ', '\r']);
        let (Some(method), Some(target)) = (words.next(), words.next()) else { panic!("{text}") };
        let host = text.split("Host: ").nth(1).and_then(|rest| rest.split('\r').next()).expect("a Host");
        let payment = self.payment(&Request::new(method, target).to_host(host)).await.expect("an offer");
        text.replace("{payment}", &payment).into_bytes()
    }

    async fn payment(&self, request: &Request) -> Option<String> {
        let challenge = self.gateway.ask(request).await;
        let paid = self.wallet.pay(&challenge.fields, &challenge.body, SystemClock.now())?;
        Some(paid.1.to_str().expect("base64").to_owned())
    }
}

fn host(name: &str, url: &str, routes: &str) -> String {
    format!("  {name}:\n    public_url: http://{name}\n    upstream: {url}\n    routes:{routes}\n")
}

/// A target with the name of the host in it, where it wants one.
pub fn at_host(target: &[u8], host: &str) -> Vec<u8> {
    let mut parts = target.split(|byte| matches!(byte, b'{' | b'}'));
    let first = parts.next().unwrap_or_default();
    match (parts.next(), parts.next()) {
        (Some(b"host"), Some(rest)) => [first, host.as_bytes(), rest].concat(),
        _ => target.to_vec(),
    }
}

pub fn without_added(arrived: Arrived) -> Arrived {
    let added = |line: &Vec<u8>| {
        let line = String::from_utf8_lossy(line).to_lowercase();
        ADDED.iter().any(|name| line.starts_with(name))
    };
    Arrived { head: arrived.head.into_iter().filter(|line| !added(line)).collect(), ..arrived }
}

/// Whether a request is the one that was expected, field by field and in their order.
pub fn is(arrived: &Arrived, expected: &Forwarded) -> bool {
    let line = |(line, expected): (&Vec<u8>, &String)| match expected.strip_suffix(": *") {
        Some(name) => line.starts_with(name.as_bytes()) && line.get(name.len()) == Some(&b':'),
        None => line == expected.as_bytes(),
    };
    arrived.body == expected.body
        && arrived.head.len() == expected.head.len()
        && arrived.head.iter().zip(&expected.head).all(line)
}

pub fn shown(arrived: &Arrived) -> String {
    let head: Vec<_> = arrived.head.iter().map(|line| String::from_utf8_lossy(line)).collect();
    format!("{} [{}]", head.join(" | "), String::from_utf8_lossy(&arrived.body).escape_debug())
}
