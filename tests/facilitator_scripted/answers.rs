//! Answers, byte by byte, made out of the honest one.

use serde_json::Value;
use tollhouse::testing::facilitator::{Behaviour, Ending, Twist};

pub const JSON: &str = "application/json";
pub const STRANGER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

/// The money moves, and this is said about it.
pub fn moved(bytes: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Behaviour {
    moved_then(Ending::Close, bytes)
}

/// The money moves, this is said about it, and the connection ends so.
pub fn moved_then(ending: Ending, bytes: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Behaviour {
    Behaviour::Raw { moves: true, bytes: Twist::new(bytes), ending }
}

/// Nothing moves, and this is said about it.
pub fn unmoved(bytes: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Behaviour {
    Behaviour::Raw { moves: false, bytes: Twist::new(bytes), ending: Ending::Close }
}

/// A whole answer.
pub fn reply(status: &str, kind: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A whole answer with status 200.
pub fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    reply("200 OK", JSON, body)
}

/// 200 with the honest answer, in which one field says something else.
pub fn but(honest: &Value, field: &str, value: impl Into<Value>) -> Vec<u8> {
    ok(changed(honest, field, value).to_string())
}

pub fn changed(honest: &Value, field: &str, value: impl Into<Value>) -> Value {
    let mut answer = honest.clone();
    answer[field] = value.into();
    answer
}

/// The honest answer without one field.
pub fn without(honest: &Value, field: &str) -> Vec<u8> {
    let mut answer = honest.clone();
    answer.as_object_mut().expect("answers are objects").remove(field);
    ok(answer.to_string())
}

/// The honest answer, as text, with something said before everything else in it.
pub fn preceded(honest: &Value, members: &str) -> Vec<u8> {
    ok(honest.to_string().replacen('{', &format!("{{{members},"), 1))
}

/// The honest answer with these bytes for the head.
pub fn under(head: &str, honest: &Value) -> Vec<u8> {
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(honest.to_string().as_bytes());
    bytes
}

/// The honest answer in chunks of this framing; `end` is what closes it.
pub fn chunked(honest: &Value, size: &str, end: &str) -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    format!("{head}{size}\r\n{honest}\r\n{end}").into_bytes()
}

/// The size of the only chunk.
pub fn whole(honest: &Value) -> String {
    format!("{:x}", honest.to_string().len())
}

/// This many interim answers.
pub fn interim(count: usize) -> Vec<u8> {
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(count)
}

/// The honest answer with so much white space before it that the body is this long.
pub fn padded(honest: &Value, length: usize) -> Vec<u8> {
    let text = honest.to_string();
    ok(format!("{}{text}", " ".repeat(length - text.len())))
}

/// A member that is this many arrays deep.
pub fn deep(name: &str, depth: usize) -> String {
    format!(r#""{name}":{}{}"#, "[".repeat(depth), "]".repeat(depth))
}

/// The bytes in a gzip envelope, stored rather than compressed.
pub fn gzipped(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("one block");
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&(!length).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&crc32(body).to_le_bytes());
    bytes.extend_from_slice(&u32::from(length).to_le_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    let fold = |mut crc: u32, byte: &u8| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
        crc
    };
    !bytes.iter().fold(!0, fold)
}

#[test]
fn the_envelope_is_what_it_says() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
