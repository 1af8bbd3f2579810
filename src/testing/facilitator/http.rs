//! A facilitator's side of HTTP, and how to be a bad one on purpose.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::{Behaviour, Call, Ending, Stage};
use crate::testing::http1::{self, Framing, Stream};

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
    let Some(head) = http1::read_head(stream).await? else { return Ok(Next::Close) };
    let mut words = head.first.split_ascii_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Err(http1::malformed()) };
    let mut call = Call { method, path, headers: head.fields, body: Value::Null };
    let behaviour = stage.cue(&call.path);
    if !matches!(behaviour, Behaviour::ResetBeforeReading) {
        let body = Framing::of_request(&call.headers).rest(stream).await?;
        call.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
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
        Behaviour::HonestWhen(latch) => {
            latch.passed().await;
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
        Behaviour::DeclineWhen(latch, code) => {
            latch.passed().await;
            respond(stream, &stage.decline(call, code)).await
        }
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
        Behaviour::Raw { moves, bytes, ending } => {
            let honest = if moves { stage.honest(call) } else { Stage::says(call) };
            stream.write_all(&bytes.of(&honest)).await?;
            stream.flush().await?;
            match ending {
                Ending::Close => Ok(Next::Close),
                Ending::Reset => reset(stream),
                Ending::Silence => std::future::pending().await,
            }
        }
        Behaviour::ResetBeforeReading | Behaviour::ResetAfterReading => reset(stream),
        Behaviour::Hang => std::future::pending().await,
    }
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

fn reset(stream: &Stream) -> io::Result<Next> {
    http1::reset(stream)?;
    Ok(Next::Close)
}
