//! A node that passes everything on to anvil, and remembers what it was asked.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tollhouse::testing::anvil::Anvil;

/// What was asked: methods with their parameters.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

pub struct Tap {
    url: String,
    asked: Asked,
    serving: JoinHandle<()>,
}

impl Tap {
    pub async fn into(anvil: &Anvil) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let (asked, upstream) = (Asked::default(), anvil.rpc_url().expose().clone());
        let serving = tokio::spawn({
            let asked = Arc::clone(&asked);
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(serve(socket, upstream.clone(), Arc::clone(&asked)));
                }
            }
        });
        Self { url, asked, serving }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many wallets it was asked about since the last time somebody wanted to know: programs that ask a wallet, and
    /// no calls to a token.
    pub fn judgements(&self) -> usize {
        let asked = std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        asked.iter().filter(|(method, params)| method == "eth_call" && params[0].get("to").is_none()).count()
    }

    /// How many times it was asked anything since then.
    pub fn questions(&self) -> usize {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner)).len()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// One question to a connection.
async fn serve(socket: TcpStream, upstream: String, asked: Asked) {
    let mut socket = BufReader::new(socket);
    let Some(question) = read_question(&mut socket).await else { return };
    let parsed: Value = serde_json::from_slice(&question).expect("a question is JSON");
    let method = parsed["method"].as_str().unwrap_or_default().to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push((method, parsed["params"].clone()));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client can be built");
    let request = client.post(upstream).header("content-type", "application/json").body(question);
    let Ok(response) = request.send().await else { return };
    let Ok(answer) = response.bytes().await else { return };
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
