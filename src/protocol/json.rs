//! JSON from strangers, read strictly; JSON to strangers, written in ASCII.
//!
//! Two parsers that disagree about one text are how a payment for one thing becomes a payment for another (S53).
//! So a key that stands twice, anywhere, is refused, and so is nesting no honest client needs (S52). What is read
//! borrows from the text and is asked for by name and shape; no complaint repeats what the client wrote.

use std::borrow::Cow;
use std::fmt;
use std::io;

use alloy::primitives::{Address, B256, Bytes, hex};
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

use crate::primitives::AtomicAmount;

/// Objects and arrays within each other, the outermost included (S52).
pub const MAX_DEPTH: usize = 16;

/// Bytes of a signature. A plain account's has 65; the scheme decides, this only bounds.
pub const MAX_SIGNATURE: usize = 4096;

/// Characters of a free text that go out. Clients copy what they are offered into the payment header, and some
/// facilitators refuse a description above 500 (protocol digest, A1 and C).
pub const MAX_TEXT: usize = 500;

/// As many keys as the objects of a payment have. Only a guess at the room they need.
const USUAL_KEYS: usize = 8;

/// What is wrong with a text, in words of ours alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(Cow<'static, str>);

impl Fault {
    /// A fault that needs no field name.
    pub const fn new(what: &'static str) -> Self {
        Self(Cow::Borrowed(what))
    }

    fn field(key: &'static str, what: &'static str) -> Self {
        Self(Cow::Owned(format!("{key} {what}")))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A JSON object in which every key stands once. Kept in the order of the keys.
#[derive(Debug, Default)]
pub struct Object<'t>(Vec<(Cow<'t, str>, Value<'t>)>);

#[derive(Debug)]
enum Value<'t> {
    Null,
    /// A number that is a whole one from zero on.
    Whole(u64),
    Text(Cow<'t, str>),
    Object(Object<'t>),
    /// A boolean, an array, or any other number: nothing we ask for.
    Other,
}

impl<'t> Object<'t> {
    /// Reads a text that is one JSON object.
    ///
    /// # Errors
    /// When it is not UTF-8, not JSON, not an object, nested too deep, or has a key twice.
    pub fn read(bytes: &'t [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::new("not UTF-8"))?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Strict { room: MAX_DEPTH }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        match value {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Fault::new("not a JSON object")),
            Err(error) if error.is_data() => Err(Fault::new("nested too deep or a key repeated")),
            Err(_) => Err(Fault::new("not JSON")),
        }
    }

    fn get(&self, key: &str) -> Option<&Value<'t>> {
        let at = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// An object that has to be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn object(&self, key: &'static str) -> Result<&Self, Fault> {
        self.optional_object(key)?.ok_or_else(|| Fault::field(key, "is missing"))
    }

    /// An object that may be left out or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_object(&self, key: &'static str) -> Result<Option<&Self>, Fault> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(Fault::field(key, "is not an object")),
        }
    }

    /// A text that has to be there.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn text(&self, key: &'static str) -> Result<&str, Fault> {
        self.optional_text(key)?.ok_or_else(|| Fault::field(key, "is missing"))
    }

    /// A text that may be left out or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_text(&self, key: &'static str) -> Result<Option<&str>, Fault> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Fault::field(key, "is not a string")),
        }
    }

    /// A whole number, when there is one.
    pub fn whole(&self, key: &str) -> Option<u64> {
        match self.get(key) {
            Some(Value::Whole(number)) => Some(*number),
            _ => None,
        }
    }

    /// A decimal string: digits and nothing else (S10).
    ///
    /// # Errors
    /// When it is anything else or does not fit 256 bits.
    pub fn amount(&self, key: &'static str) -> Result<AtomicAmount, Fault> {
        self.text(key)?.parse().map_err(|_| Fault::field(key, "is not a decimal string"))
    }

    /// An EVM address; the case of its letters does not matter.
    ///
    /// # Errors
    /// When it is not 0x and 40 hex digits.
    pub fn address(&self, key: &'static str) -> Result<Address, Fault> {
        fixed(self.text(key)?).map(Address::new).ok_or_else(|| Fault::field(key, "is not 0x and 40 hex digits"))
    }

    /// 32 bytes.
    ///
    /// # Errors
    /// When it is not 0x and 64 hex digits.
    pub fn word(&self, key: &'static str) -> Result<B256, Fault> {
        fixed(self.text(key)?).map(B256::new).ok_or_else(|| Fault::field(key, "is not 0x and 64 hex digits"))
    }

    /// The bytes of a signature, however long.
    ///
    /// # Errors
    /// When it is not 0x and hex digits, or longer than [`MAX_SIGNATURE`].
    pub fn signature(&self, key: &'static str) -> Result<Bytes, Fault> {
        let digits = digits(self.text(key)?).filter(|digits| digits.len() <= 2 * MAX_SIGNATURE);
        let bytes = digits.and_then(|digits| hex::decode(digits).ok());
        bytes.map(Bytes::from).ok_or_else(|| Fault::field(key, "is not 0x and hex digits, or too long"))
    }
}

fn fixed<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(digits(text)?, &mut bytes).ok().map(|()| bytes)
}

/// What follows `0x`. The decoder would take a second `0x`, so the digits are looked at here.
fn digits(text: &str) -> Option<&str> {
    text.strip_prefix("0x").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Reads any value with `room` containers left to open.
struct Strict {
    room: usize,
}

impl Strict {
    fn inner<E: de::Error>(&self) -> Result<Self, E> {
        self.room.checked_sub(1).map(|room| Self { room }).ok_or_else(|| E::custom("nested too deep"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let room = self.inner()?.room;
        while items.next_element_seed(Strict { room })?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let room = self.inner()?.room;
        let mut object = Vec::with_capacity(USUAL_KEYS);
        while let Some(Key(key)) = entries.next_key()? {
            object.push((key, entries.next_value_seed(Strict { room })?));
        }
        object.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if object.windows(2).any(|neighbours| neighbours[0].0 == neighbours[1].0) {
            return Err(de::Error::custom("a key stands twice"));
        }
        Ok(Value::Object(Object(object)))
    }
}

/// A key, borrowed from the text unless it holds an escape.
#[derive(serde::Deserialize)]
struct Key<'t>(#[serde(borrow)] Cow<'t, str>);

/// Writes JSON in ASCII, without `<` and control characters.
///
/// v1 clients read base64 as Latin-1 and do not undo UTF-8 (protocol digest, A1), and a page that embeds the text
/// in a script must not find the end of that script in it.
pub fn write<T: Serialize>(value: &T) -> Vec<u8> {
    let mut text = Vec::with_capacity(1024);
    let mut writer = serde_json::Serializer::with_formatter(&mut text, Ascii);
    value.serialize(&mut writer).expect("our types have string keys and a Vec takes any bytes");
    text
}

struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Nearly every fragment is plain, and a whole look at it is faster than a look at each character.
        let is_plain = |byte: u8| (b' '..=b'~').contains(&byte) & (byte != b'<');
        if fragment.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let plain = |char: char| matches!(char, ' '..='~') && char != '<';
        let mut written = 0;
        for (at, char) in fragment.char_indices().filter(|(_, char)| !plain(*char)) {
            writer.write_all(&fragment.as_bytes()[written..at])?;
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            written = at + char.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }
}

/// A free text as it goes out: without control characters and of bounded length (S55).
///
/// JSON escapes them anyway, so no header line can end in one; but whoever unpacks the text may be a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Clean<'a>(pub &'a str);

impl Serialize for Clean<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.len() <= MAX_TEXT && !self.0.contains(char::is_control) {
            return serializer.serialize_str(self.0);
        }
        let spaced = self.0.chars().map(|char| if char.is_control() { ' ' } else { char });
        serializer.serialize_str(&spaced.take(MAX_TEXT).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        Object::read(text.as_bytes()).is_err()
    }

    #[test]
    fn s52_a_key_may_not_stand_twice_at_any_depth_in_any_spelling() {
        assert!(refused(r#"{"a":1,"a":1}"#));
        assert!(refused(r#"{"a":1,"\u0061":1}"#));
        assert!(refused(r#"{"x":[[{"y":{"a":1,"b":2,"a":3}}]]}"#));
        assert!(!refused(r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}"#));
    }

    #[test]
    fn s52_the_seventeenth_container_is_one_too_many() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(!refused(&nested(MAX_DEPTH)));
        assert!(refused(&nested(MAX_DEPTH + 1)));
        assert!(refused(&nested(100_000)));
    }

    #[test]
    fn only_one_json_object_and_nothing_else_is_read() {
        for text in ["", " ", "null", "[]", "1", "\"a\"", "{} {}", "{},", "{\"a\":1,}", "{'a':1}", "{\"a\":1e999}"] {
            assert!(refused(text), "{text} was read");
        }
        assert!(Object::read(b"{\"a\":\"\xff\"}").is_err());
        assert!(!refused(" {} "));
    }

    #[test]
    fn hexadecimal_has_one_prefix_and_whole_bytes() {
        let read = |digits: &str| {
            let text = format!(r#"{{"from":"{digits}"}}"#);
            Object::read(text.as_bytes()).and_then(|object| object.address("from")).is_ok()
        };
        assert!(read("0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266"), "case does not matter");
        for text in [
            "f39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0Xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0x0xf39Fd6e51aad88F6F4ce6aB8827279cffFb922",
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb9226",
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb9226g",
            "",
        ] {
            assert!(!read(text), "{text} was read as an address");
        }
    }

    #[test]
    fn a_complaint_names_our_field_and_never_the_clients_text() {
        let object = Object::read(br#"{"value":"<script>","from":7}"#).expect("it is an object");
        let complaints =
            [object.amount("value").map(drop), object.address("from").map(drop), object.text("to").map(drop)];
        let complaints: Vec<_> =
            complaints.into_iter().filter_map(Result::err).map(|fault| fault.to_string()).collect();
        assert_eq!(complaints, ["value is not a decimal string", "from is not a string", "to is missing"]);
    }

    #[test]
    fn s55_what_goes_out_is_ascii_without_angles_and_control_characters() {
        let text = write(&Clean("a<b\r\nSet-Cookie: x\0\u{1b}[31m\u{7f} caf\u{e9} \u{1f600}"));
        assert!(text.is_ascii() && !text.contains(&b'<') && !text.iter().any(u8::is_ascii_control));
        let read: String = serde_json::from_slice(&text).expect("it is JSON");
        assert_eq!(read, "a<b  Set-Cookie: x  [31m  caf\u{e9} \u{1f600}");
        let long: String = serde_json::from_slice(&write(&Clean(&"\u{e9}".repeat(900)))).expect("it is JSON");
        assert_eq!(long.chars().count(), MAX_TEXT);
    }
}
