//! A node that fails at one method, and passes everything else on to anvil.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tollhouse::primitives::Secret;
use tollhouse::testing::anvil::Anvil;

/// How it fails.
#[derive(Clone, Copy)]
pub enum Fault {
    /// The question is passed on and answered, but the answer gets lost.
    LoseTheAnswer,
    /// The question gets lost.
    LoseTheQuestion,
    /// This is answered instead, with status 200.
    Answer(&'static str),
    /// The same, but only the first time.
    AnswerOnce(&'static str),
}

pub struct Flaky {
    url: String,
    healed: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Flaky {
    pub async fn start(anvil: &Anvil, method: &'static str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let healed = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let upstream = anvil.rpc_url().expose().clone();
        let serving = tokio::spawn({
            let (healed, asked) = (healed.clone(), asked.clone());
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(socket, upstream.clone(), method, fault, healed.clone()));
                }
            }
        });
        Self { url, healed, asked, serving }
    }

    pub fn url(&self) -> Secret<String> {
        Secret::new(self.url.clone())
    }

    /// How many questions it was asked since the last time somebody wanted to know.
    pub fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }

    /// From here on it fails, again.
    pub fn fail(&self) {
        self.healed.store(false, Ordering::SeqCst);
    }

    /// From here on it passes everything on.
    pub fn heal(&self) {
        self.healed.store(true, Ordering::SeqCst);
    }
}

impl Drop for Flaky {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One question to a connection.
async fn serve(socket: TcpStream, upstream: String, method: &str, fault: Fault, healed: Arc<AtomicBool>) {
    let mut socket = BufReader::new(socket);
    let Some(question) = read_question(&mut socket).await else { return };
    let parsed: Value = serde_json::from_slice(&question).expect("a question is JSON");
    let fails = parsed["method"] == method && !healed.load(Ordering::SeqCst);
    let answer = match fails.then_some(fault) {
        Some(Fault::LoseTheQuestion) => return,
        Some(Fault::Answer(body)) => body.as_bytes().to_vec(),
        Some(Fault::AnswerOnce(body)) => {
            healed.store(true, Ordering::SeqCst);
            body.as_bytes().to_vec()
        }
        Some(Fault::LoseTheAnswer) => return drop(ask(&upstream, question).await),
        None => ask(&upstream, question).await,
    };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
    let _ = socket.write_all(&[head.as_bytes(), &answer].concat()).await;
}

async fn read_question(socket: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    Some(body)
}

async fn ask(upstream: &str, question: Vec<u8>) -> Vec<u8> {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client can be built");
    let request = client.post(upstream).header("content-type", "application/json").body(question);
    request.send().await.expect("anvil listens").bytes().await.expect("anvil answers").to_vec()
}
