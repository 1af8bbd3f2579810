//! Just enough HTTP/1.1 to be a server, and to be a bad one on purpose.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Behaviour, Call, Stage};

type Stream = BufStream<TcpStream>;

/// Answers calls on this connection until the client or the script ends it.
pub(super) async fn converse(stream: TcpStream, stage: Arc<Stage>) {
    let mut stream = BufStream::new(stream);
    // A client that leaves in the middle is part of many a script.
    while let Ok(Next::KeepAlive) = exchange(&mut stream, &stage).await {}
}

enum Next {
    KeepAlive,
    Close,
}

async fn exchange(stream: &mut Stream, stage: &Stage) -> io::Result<Next> {
    let Some(mut call) = read_head(stream).await? else { return Ok(Next::Close) };
    let behaviour = stage.cue(&call.path);
    if !matches!(behaviour, Behaviour::ResetBeforeReading) {
        call.body = read_body(stream, &call.headers).await?;
    }
    stage.record(call.clone());
    perform(stream, stage, &call, behaviour).await
}

async fn perform(stream: &mut Stream, stage: &Stage, call: &Call, behaviour: Behaviour) -> io::Result<Next> {
    match behaviour {
        Behaviour::Honest => respond(stream, &stage.honest(call)).await,
        Behaviour::HonestAfter(delay) => {
            sleep(delay).await;
            respond(stream, &stage.honest(call)).await
        }
        Behaviour::HonestThenReset => {
            stage.honest(call);
            reset(stream)
        }
        Behaviour::Drip(pause) => drip(stream, &stage.honest(call), pause).await,
        Behaviour::Truncated => {
            let body = stage.honest(call).to_string();
            let half = &body[..body.len() / 2];
            stream.write_all(head(200, "application/json", body.len(), "").as_bytes()).await?;
            stream.write_all(half.as_bytes()).await?;
            stream.flush().await?;
            Ok(Next::Close)
        }
        Behaviour::Decline(code) => respond(stream, &stage.decline(call, code)).await,
        Behaviour::Answer(value) => respond(stream, &value).await,
        Behaviour::AnswerAfter(delay, value) => {
            sleep(delay).await;
            respond(stream, &value).await
        }
        Behaviour::Status(status, content_type, body) => write(stream, status, content_type, &body, "").await,
        Behaviour::Redirect(to) => write(stream, 307, "text/plain", "", &format!("location: {to}\r\n")).await,
        Behaviour::Huge => {
            let padding = " ".repeat(6 * 1024 * 1024);
            write(stream, 200, "application/json", &format!("{padding}{}", stage.honest(call)), "").await
        }
        Behaviour::ResetBeforeReading | Behaviour::ResetAfterReading => reset(stream),
        Behaviour::Hang => std::future::pending().await,
    }
}

/// The head of a request; `None` when the client has closed the connection between two of them.
async fn read_head(stream: &mut Stream) -> io::Result<Option<Call>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(malformed()) };
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(malformed());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let name = HeaderName::try_from(name).map_err(|_| malformed())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| malformed())?);
    }
    Ok(Some(Call { method, path, headers, body: Value::Null }))
}

async fn read_body(stream: &mut Stream, headers: &HeaderMap) -> io::Result<Value> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn malformed() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}

async fn respond(stream: &mut Stream, body: &Value) -> io::Result<Next> {
    write(stream, 200, "application/json", &body.to_string(), "").await
}

async fn write(stream: &mut Stream, status: u16, kind: &str, body: &str, more: &str) -> io::Result<Next> {
    stream.write_all(head(status, kind, body.len(), more).as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.flush().await?;
    Ok(Next::KeepAlive)
}

fn head(status: u16, kind: &str, length: usize, more: &str) -> String {
    // 204 has no length and no body (RFC 9110, 15.3.5).
    let length = if status == 204 { String::new() } else { format!("content-length: {length}\r\n") };
    format!("HTTP/1.1 {status} Scripted\r\ncontent-type: {kind}\r\n{length}{more}\r\n")
}

async fn drip(stream: &mut Stream, body: &Value, pause: Duration) -> io::Result<Next> {
    let body = body.to_string();
    stream.write_all(head(200, "application/json", body.len(), "").as_bytes()).await?;
    for byte in body.as_bytes() {
        stream.write_u8(*byte).await?;
        stream.flush().await?;
        sleep(pause).await;
    }
    Ok(Next::KeepAlive)
}

/// Closing with no linger makes the kernel send RST rather than FIN.
fn reset(stream: &Stream) -> io::Result<Next> {
    stream.get_ref().set_zero_linger()?;
    Ok(Next::Close)
}
