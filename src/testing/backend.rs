//! The API behind the gateway: an HTTP server that follows a script and remembers what it was asked.

mod behaviour;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::http1::{self, Framing, Stream};

pub use behaviour::{Behaviour, Step};

/// How many bytes a [`Step::Fill`] writes at once.
static FILLING: [u8; 64 * 1024] = [b'.'; 64 * 1024];

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Hit {
    /// `GET`.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body; empty until it has been read.
    pub body: Bytes,
}

impl Hit {
    /// The value of a field, if it is there and is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }
}

/// An API on a port of its own. Gone, with its connections, when dropped.
///
/// ```
/// use tollhouse::testing::backend::{Backend, Behaviour};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let backend = Backend::start().await;
/// backend.on("/weather", [Behaviour::reset()]); // the first request; later ones are answered
/// assert_eq!(backend.hits(), 0);
/// # });
/// ```
pub struct Backend {
    address: SocketAddr,
    stage: Arc<Stage>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Stage(Mutex<State>);

#[derive(Default)]
struct State {
    scripts: HashMap<String, VecDeque<Behaviour>>,
    defaults: HashMap<String, Behaviour>,
    hits: Vec<Hit>,
}

impl Backend {
    /// Listens on a free port of 127.0.0.1. Whatever has no script is answered with 200 and `answer`.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let stage = Arc::new(Stage::default());
        let server = tokio::spawn(serve(listener, Arc::clone(&stage)));
        Self { address, stage, server }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, as `upstream:` wants it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to do with the next requests for this path, one each, after those already scripted.
    pub fn on(&self, path: &str, script: impl IntoIterator<Item = Behaviour>) -> &Self {
        self.stage.lock().scripts.entry(path.to_owned()).or_default().extend(script);
        self
    }

    /// What to do with requests for this path for which there is no script.
    pub fn always(&self, path: &str, behaviour: Behaviour) -> &Self {
        self.stage.lock().defaults.insert(path.to_owned(), behaviour);
        self
    }

    /// How many requests have arrived.
    pub fn hits(&self) -> usize {
        self.stage.lock().hits.len()
    }

    /// Every request so far, in order of arrival.
    pub fn requests(&self) -> Vec<Hit> {
        self.stage.lock().hits.clone()
    }

    /// The latest request.
    ///
    /// # Panics
    /// When there was none.
    pub fn last(&self) -> Hit {
        self.stage.lock().hits.last().cloned().expect("the backend was never asked")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// Remembers a request when its head is there, and chooses what to do with it.
    fn record(&self, hit: Hit) -> (usize, Behaviour) {
        let mut state = self.lock();
        let path = hit.target.split('?').next().unwrap_or_default().to_owned();
        state.hits.push(hit);
        let scripted = state.scripts.get_mut(&path).and_then(VecDeque::pop_front);
        let behaviour = scripted.or_else(|| state.defaults.get(&path).cloned());
        (state.hits.len() - 1, behaviour.unwrap_or_else(|| Behaviour::text("answer")))
    }
}

async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(converse(stream, Arc::clone(&stage))); }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, stage: Arc<Stage>) {
    let mut stream = BufStream::new(stream);
    // A gateway that hangs up in the middle is part of many a script.
    while let Ok(true) = exchange(&mut stream, &stage).await {}
}

/// Whether the connection is kept.
async fn exchange(stream: &mut Stream, stage: &Stage) -> io::Result<bool> {
    let Some(head) = http1::read_head(stream).await? else { return Ok(false) };
    let mut words = head.first.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(http1::malformed()) };
    let mut framing = Framing::of_request(&head.fields);
    let (number, behaviour) = stage.record(Hit { method, target, fields: head.fields, body: Bytes::new() });
    if !behaviour.deaf {
        let body = framing.rest(stream).await?;
        stage.lock().hits[number].body = body.into();
    }
    for step in &behaviour.steps {
        match step {
            Step::Write(bytes) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Step::Fill(bytes) => fill(stream, *bytes).await?,
            Step::Wait(latch) => latch.passed().await,
            Step::Close => return Ok(false),
            Step::Reset => {
                http1::reset(stream)?;
                return Ok(false);
            }
            Step::Hang => std::future::pending().await,
        }
    }
    Ok(!behaviour.deaf)
}

async fn fill(stream: &mut Stream, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(FILLING.len(), |left| left.min(FILLING.len()));
        stream.write_all(&FILLING[..piece]).await?;
        left -= piece as u64;
    }
    stream.flush().await
}
