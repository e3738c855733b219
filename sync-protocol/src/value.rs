//! Values: any JSON value, with one canonical encoding for equality, hashes and digests.
//!
//! The encoding is deterministic CBOR (RFC 8949, section 4.2.1): shortest integers, sorted keys, definite lengths.
//! Floats are always 64 bits wide. A number that a 64-bit float cannot hold exactly as written (`0.1234567890123456789`,
//! `1e400`) keeps its text, under tag [`DECIMAL_TAG`]. A float without a fraction below 2^53 is an integer: `1.0` equals `1`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use minicbor::data::Type;

use crate::cbor::{In, Out};
use crate::error::DecodeError;
use crate::limits;

/// Marks text that is a JSON number kept as written. From the range that RFC 8949 leaves to first come, first served.
pub const DECIMAL_TAG: u64 = 28_528;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// A whole number that 64 bits hold.
    Int(i64),
    /// Any other number that a 64-bit float holds.
    Float(Float),
    /// A number kept as written.
    Decimal(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Map(BTreeMap<String, Value>),
}

/// A finite float with a total order.
#[derive(Debug, Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// The float.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl std::hash::Hash for Float {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl Value {
    /// Takes a JSON value in.
    pub fn from_json(json: &serde_json::Value) -> Value {
        use serde_json::Value as Json;
        match json {
            Json::Null => Value::Null,
            Json::Bool(b) => Value::Bool(*b),
            Json::Number(n) => number(n.as_str()),
            Json::String(s) => Value::Text(s.clone()),
            Json::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            Json::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), Value::from_json(v))).collect()),
        }
    }

    /// Gives the JSON value back.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(n) => Json::from(*n),
            Value::Float(x) => Json::from(x.0),
            Value::Decimal(text) => Json::Number(serde_json::Number::from_string_unchecked(text.clone())),
            Value::Text(s) => Json::String(s.clone()),
            Value::List(items) => Json::Array(items.iter().map(Value::to_json).collect()),
            Value::Map(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), v.to_json())).collect()),
        }
    }

    /// The text, if it is text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(s) => Some(s),
            _ => None,
        }
    }

    /// Levels of lists and objects; 0 for a plain value.
    pub fn depth(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(Value::depth).max().unwrap_or(0),
            Value::Map(map) => 1 + map.values().map(Value::depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Orders by size: numbers by their value, all else by kind and then content. For `max` and `min`.
    pub fn by_size(&self, other: &Value) -> Ordering {
        match (self.as_f64(), other.as_f64()) {
            (Some(a), Some(b)) => a.total_cmp(&b).then_with(|| self.cmp(other)),
            _ => self.cmp(other),
        }
    }

    fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Int(n) => Some(*n as f64),
            Value::Float(x) => Some(x.0),
            Value::Decimal(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A number kept as written. It goes back out as a JSON number, so it must be one, and one that has no shorter form: two
    /// forms of one value would be two values.
    pub(crate) fn decimal(text: &str) -> Result<Value, DecodeError> {
        match serde_json::from_str::<serde_json::Number>(text).map(|number| self::number(&number.to_string())) {
            Ok(Value::Decimal(written)) if written == text => Ok(Value::Decimal(written)),
            _ => Err(DecodeError::Shape("a number as text that is none, or has another form")),
        }
    }

    /// About how many bytes it takes, in memory as in canonical form; cheap to ask.
    pub(crate) fn size(&self) -> usize {
        match self {
            Value::Null | Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 9,
            Value::Decimal(text) | Value::Text(text) => 1 + text.len(),
            Value::List(items) => 1 + items.iter().map(Value::size).sum::<usize>(),
            Value::Map(map) => 1 + map.iter().map(|(key, value)| 1 + key.len() + value.size()).sum::<usize>(),
        }
    }

    /// The canonical bytes.
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Out::new();
        self.encode(&mut out);
        out.finish()
    }

    pub(crate) fn encode(&self, out: &mut Out) {
        match self {
            Value::Null => out.null().done(),
            Value::Bool(b) => out.bool(*b).done(),
            Value::Int(n) => out.int(*n).done(),
            Value::Float(x) => out.float(x.0).done(),
            Value::Decimal(text) => out.tag(DECIMAL_TAG).text(text).done(),
            Value::Text(s) => out.text(s).done(),
            Value::List(items) => out.list(items.iter(), |out, item| item.encode(out)).done(),
            Value::Map(map) => {
                out.map(map.len());
                // RFC 8949 sorts keys by their encoded bytes, and the length comes first there.
                let mut keys: Vec<_> = map.iter().collect();
                keys.sort_by(|(a, _), (b, _)| (a.len(), a.as_bytes()).cmp(&(b.len(), b.as_bytes())));
                for (key, value) in keys {
                    out.text(key);
                    value.encode(out);
                }
            }
        }
    }

    pub(crate) fn decode(input: &mut In<'_>) -> Result<Value, DecodeError> {
        Value::decode_at(input, 0)
    }

    fn decode_at(input: &mut In<'_>, depth: usize) -> Result<Value, DecodeError> {
        if depth > limits::DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        Ok(match input.kind()? {
            Type::Null => {
                input.skip()?;
                Value::Null
            }
            Type::Bool => Value::Bool(input.bool()?),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
                Value::Int(input.int()?)
            }
            Type::F64 => match input.float()? {
                x if x.is_finite() && !is_whole(x) => Value::Float(Float(x)),
                _ => return Err(DecodeError::Shape("a float that is not finite, or has another form")),
            },
            Type::Tag => match input.tag()? {
                DECIMAL_TAG => Value::decimal(input.text()?)?,
                _ => return Err(DecodeError::Shape("unknown tag in a value")),
            },
            Type::String => Value::Text(input.text()?.to_owned()),
            Type::Array => Value::List(input.list(|input| Value::decode_at(input, depth + 1))?),
            Type::Map => {
                let len = input.map()?;
                let mut map = BTreeMap::new();
                for _ in 0..len {
                    let key = input.text()?.to_owned();
                    if map.insert(key, Value::decode_at(input, depth + 1)?).is_some() {
                        return Err(DecodeError::Shape("a key twice in one object"));
                    }
                }
                Value::Map(map)
            }
            _ => return Err(DecodeError::Shape("not a JSON value")),
        })
    }
}

/// Chooses the representation of a JSON number literal.
fn number(literal: &str) -> Value {
    if let Ok(n) = literal.parse::<i64>() {
        return Value::Int(n);
    }
    match literal.parse::<f64>() {
        Ok(x) if x.is_finite() && digits(literal) == digits(&format!("{x:e}")) => match is_whole(x) {
            true => Value::Int(x as i64),
            false => Value::Float(Float(x)),
        },
        _ => Value::Decimal(literal.to_owned()),
    }
}

/// Whether an integer stands for this float, because it is one and floats of its size hold every integer.
fn is_whole(x: f64) -> bool {
    x.fract() == 0.0 && x.abs() < 9_007_199_254_740_992.0
}

/// A decimal literal as its significant digits and the power of ten of the last one; `None` if it is no such literal.
fn digits(literal: &str) -> Option<(bool, String, i64)> {
    let (negative, rest) = match literal.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let without_zeros = all.trim_end_matches('0');
    let scale = exponent - fraction.len() as i64 + (all.len() - without_zeros.len()) as i64;
    let significant = without_zeros.trim_start_matches('0');
    match significant.is_empty() {
        true => Some((false, String::new(), 0)),
        false => Some((negative, significant.to_owned(), scale)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        Value::from_json(&serde_json::from_str(json).unwrap())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The test vectors that `docs/protocol.md` prints.
    #[test]
    fn canonical_vectors() {
        for (json, expected) in [
            ("null", "f6"),
            ("true", "f5"),
            ("0", "00"),
            ("-0.0", "00"),
            ("23", "17"),
            ("-1", "20"),
            ("1000", "1903e8"),
            ("1e3", "1903e8"),
            ("1.0", "01"),
            ("9223372036854775807", "1b7fffffffffffffff"),
            ("36.8", "fb4042666666666666"),
            ("36.80", "fb4042666666666666"),
            ("0.1234567890123456789", "d96f7075302e31323334353637383930313233343536373839"),
            ("18446744073709551616", "d96f70743138343436373434303733373039353531363136"),
            ("\"ä\"", "62c3a4"),
            ("[1,[2]]", "82018102"),
            ("{\"bb\":1,\"a\":2,\"c\":3}", "a361610261630362626201"),
        ] {
            assert_eq!(hex(&value(json).canonical()), expected, "{json}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        for json in ["null", "[1,-5,36.8,1e400,\"x\"]", "{\"a\":{\"b\":[true,{}]}}", "123456789012345678901234567890"] {
            let original = value(json);
            let bytes = original.canonical();
            assert_eq!(Value::decode(&mut In::new(&bytes)).unwrap(), original, "{json}");
            assert_eq!(Value::from_json(&original.to_json()), original);
        }
    }

    #[test]
    fn numbers_order_by_size_whatever_their_form() {
        assert_eq!(value("9").by_size(&value("10.5")), Ordering::Less);
        assert_eq!(value("1e300").by_size(&value("-1e400")), Ordering::Greater);
        assert_eq!(value("\"2026-01-02\"").by_size(&value("\"2026-01-10\"")), Ordering::Less);
    }

    #[test]
    fn hostile_bytes_are_refused() {
        for bytes in [
            &[0x9f, 0x01][..],
            &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
            // 1.0 as a float, "1", and "36.8" as text: each has a shorter form.
            &[0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0],
            &[0xd9, 0x6f, 0x70, 0x61, 0x31],
            &[0xd9, 0x6f, 0x70, 0x64, 0x33, 0x36, 0x2e, 0x38],
        ] {
            assert!(Value::decode(&mut In::new(bytes)).is_err());
        }
        let deep = vec![0x81; 10_000];
        assert!(matches!(Value::decode(&mut In::new(&deep)), Err(DecodeError::TooDeep)));
    }
}
