//! A node that passes questions on to anvil, remembers them, and fails at one method when it is told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::anvil::Anvil;
use super::http1::{self, Framing, Stream};
use crate::primitives::Secret;

/// How it fails.
#[derive(Debug, Clone, Copy)]
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

/// A node in front of anvil.
pub struct Relay {
    url: String,
    desk: Arc<Desk>,
    serving: JoinHandle<()>,
}

struct Desk {
    upstream: Secret<String>,
    client: reqwest::Client,
    /// The method that fails, and how.
    fault: Option<(&'static str, Fault)>,
    healed: AtomicBool,
    asked: Mutex<Vec<Question>>,
}

/// What was asked: the method and its parameters.
pub type Question = (String, Value);

impl Relay {
    /// One that only passes on.
    pub async fn before(anvil: &Anvil) -> Self {
        Self::serve(anvil, None).await
    }

    /// One that fails at this method until it is healed.
    pub async fn failing(anvil: &Anvil, method: &'static str, fault: Fault) -> Self {
        Self::serve(anvil, Some((method, fault))).await
    }

    async fn serve(anvil: &Anvil, fault: Option<(&'static str, Fault)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let desk = Arc::new(Desk {
            upstream: anvil.rpc_url(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client can be built"),
            fault,
            healed: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let serving = tokio::spawn({
            let desk = desk.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let desk = desk.clone();
                    tokio::spawn(async move { desk.serve(socket).await });
                }
            }
        });
        Self { url, desk, serving }
    }

    /// Where it listens.
    pub fn url(&self) -> Secret<String> {
        Secret::new(self.url.clone())
    }

    /// What it was asked since the last time somebody wanted to know.
    pub fn asked(&self) -> Vec<Question> {
        std::mem::take(&mut *self.desk.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on it fails, again.
    pub fn fail(&self) {
        self.desk.healed.store(false, Ordering::SeqCst);
    }

    /// From here on it passes everything on.
    pub fn heal(&self) {
        self.desk.healed.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Desk {
    /// One question to a connection. A client that breaks off hears nothing more.
    async fn serve(&self, socket: TcpStream) {
        let mut stream = Stream::new(socket);
        let Ok(Some(head)) = http1::read_head(&mut stream).await else { return };
        let Ok(question) = Framing::of_request(&head.fields).rest(&mut stream).await else { return };
        let Some(answer) = self.answer(question).await else { return };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        if stream.write_all(&[head.as_bytes(), &answer].concat()).await.is_ok() {
            stream.flush().await.ok();
        }
    }

    /// What is answered, if anything.
    async fn answer(&self, question: Vec<u8>) -> Option<Vec<u8>> {
        let parsed: Value = serde_json::from_slice(&question).expect("a question is JSON");
        let method = parsed["method"].as_str().unwrap_or_default();
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push((method.to_owned(), parsed["params"].clone()));
        let fault = self.fault.filter(|(failing, _)| *failing == method && !self.healed.load(Ordering::SeqCst));
        match fault.map(|(_, fault)| fault) {
            None => Some(self.ask(question).await),
            Some(Fault::Answer(body)) => Some(body.into()),
            Some(Fault::AnswerOnce(body)) => {
                self.healed.store(true, Ordering::SeqCst);
                Some(body.into())
            }
            Some(Fault::LoseTheQuestion) => None,
            Some(Fault::LoseTheAnswer) => {
                self.ask(question).await;
                None
            }
        }
    }

    async fn ask(&self, question: Vec<u8>) -> Vec<u8> {
        let request =
            self.client.post(self.upstream.expose()).header("content-type", "application/json").body(question);
        request.send().await.expect("anvil listens").bytes().await.expect("anvil answers").to_vec()
    }
}
