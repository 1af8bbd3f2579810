//! `tollhouse demo`: the whole product in one command, with play money.
//!
//! A sample API, the gateway as `run` starts it, and a client that pays, in one process. What is printed is what was
//! sent and what came back, and each step is checked before the next begins.

mod acts;
mod api;
mod home;
mod script;

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use http::{HeaderMap, Method};
use url::Url;

use super::pay::exchange::{Client, Request};
use super::pay::wallet::Wallet;
use super::words::explain;
use super::{Verdict, block_on};
use crate::server::{RunError, Serving, StartError, Stop};
use crate::{config, telemetry};
use api::SampleApi;
use home::Home;
use script::Script;

/// The port of the gateway and of its status listener, when nobody else has them.
const USUAL_PORTS: (u16, u16) = (8402, 9402);
/// How often a port that was free and then was not is replaced.
const MOST_TRIES: u32 = 10;
/// How long requests under way may take to end.
const GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after the transcript: exit code 0 if every step did what it should
    #[arg(long)]
    once: bool,
    /// The port of the gateway, 0 for any [default: 8402, or another when that is taken]
    #[arg(long)]
    port: Option<u16>,
}

/// All that the demo needs, running.
struct World {
    serving: Serving,
    api: SampleApi,
    home: Home,
    /// What is not as usual.
    note: Option<String>,
    client: Client,
    wallet: Wallet,
    request: Request,
}

impl Demo {
    pub(super) fn execute(self) -> Verdict {
        block_on(async {
            match self.perform().await {
                Ok(verdict) => verdict,
                Err(why) => {
                    talk!("tollhouse: the demo cannot start: {why}");
                    Verdict::CouldNotFindOut
                }
            }
        })
    }

    async fn perform(&self) -> Result<Verdict, String> {
        let mut stop = Stop::listen().map_err(|error| error.to_string())?;
        let mut world = World::open(self.port).await?;
        let mut script = Script::on_stdout();
        script.opening(&world);
        let played = tokio::select! {
            played = acts::play(&mut world, &mut script) => played,
            // Not all of it has been seen to hold.
            _ = stop.told() => return Ok(Verdict::No),
        };
        let verdict = match played {
            Ok(()) if self.once => {
                script.curtain();
                Verdict::Yes
            }
            Ok(()) => {
                script.invitation(&world);
                // From here on people act, and the log tells them what the gateway made of it.
                let log = telemetry::Config { format: telemetry::Format::Human, ..telemetry::Config::default() };
                telemetry::init(&log, None);
                match world.serving.until(stop.told()).await {
                    Ok(_) => Verdict::Yes,
                    Err(_) => Verdict::No,
                }
            }
            Err(mishap) => {
                script.mishap(&mishap);
                Verdict::No
            }
        };
        world.close().await;
        Ok(verdict)
    }
}

impl World {
    async fn open(port: Option<u16>) -> Result<Self, String> {
        let api = SampleApi::open().await.map_err(|error| error.to_string())?;
        let home = Home::new().map_err(|error| format!("no temporary directory can be made: {error}"))?;
        let (serving, gateway) = serve(&home, &api, port).await?;
        let url = format!("http://{gateway}/v1/weather");
        let url: Url = url.parse().map_err(|error| format!("{url}: {error}"))?;
        let client = Client::new(&url).map_err(|lost| lost.into_words())?;
        let request = Request { method: Method::GET, url, fields: HeaderMap::new(), body: bytes::Bytes::new() };
        let taken = port.is_none() && gateway.port() != USUAL_PORTS.0;
        let note = taken.then(|| format!("Port {} is taken, so it is {} here.", USUAL_PORTS.0, gateway.port()));
        Ok(Self { serving, api, home, note, client, wallet: Wallet::throw_away(), request })
    }

    /// The client goes first: the gateway waits for connections that are open.
    async fn close(self) {
        let Self { serving, client, home, .. } = self;
        drop(client);
        serving.shut_down(GRACE).await;
        drop(home);
    }

    fn url(&self) -> &Url {
        &self.request.url
    }
}

/// Starts the gateway, and says where it is. A usual port that somebody has is replaced by one that is free; a port that
/// was asked for is not.
async fn serve(home: &Home, api: &SampleApi, port: Option<u16>) -> Result<(Serving, SocketAddr), String> {
    let mut tries = 0;
    loop {
        tries += 1;
        let gateway = home::address(port.unwrap_or(USUAL_PORTS.0), port.is_none());
        let status = home::address(USUAL_PORTS.1, true);
        let (gateway, status) = gateway
            .and_then(|gateway| Ok((gateway, status?)))
            .map_err(|error| format!("no port can be had: {error}"))?;
        let text = home::gateway_yaml(gateway, status, api.address());
        home.write(&text).map_err(|error| format!("gateway.yaml cannot be written: {error}"))?;
        match Serving::start(home.file(), config::load(home.file())).await {
            Ok(serving) => return Ok((serving, gateway)),
            // Somebody took it in the moment between looking and listening.
            Err(RunError::Start(StartError::Listen { .. })) if tries < MOST_TRIES => {}
            Err(error) => return Err(explain(&error)),
        }
    }
}
