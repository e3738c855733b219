//! Columns: how many alike things are laid out in a frame, so that what repeats stands together.
//!
//! Numbers are written as one number if all are equal, else as the first and the differences. Texts and values are
//! written once if all are equal. Texts that are UUIDs or dates are written in their short standard forms
//! (CBOR tags 37 and 100) and come back to the letter.

use jiff::Span;
use jiff::civil::{Date, date};
use minicbor::data::Type;

use crate::cbor::{In, Out};
use crate::codec::{decode_optional_value, encode_optional_value};
use crate::error::DecodeError;
use crate::value::Value;

const TAG_UUID: u64 = 37;
const TAG_DAYS: u64 = 100;

/// Writes a column of numbers.
pub(crate) fn write_ints(out: &mut Out, column: &[u64]) {
    match column.split_first() {
        Some((first, rest)) if rest.iter().any(|n| n != first) => {
            out.array(column.len());
            let mut last = 0u64;
            for n in column {
                out.int(n.wrapping_sub(last) as i64);
                last = *n;
            }
        }
        Some((first, _)) => out.uint(*first).done(),
        None => out.uint(0).done(),
    }
}

/// Reads a column of `len` numbers.
pub(crate) fn read_ints(input: &mut In<'_>, len: usize) -> Result<Vec<u64>, DecodeError> {
    if input.kind()? != Type::Array {
        return Ok(vec![input.uint()?; len]);
    }
    let mut last = 0u64;
    let column = input.list(|input| {
        last = last.wrapping_add(input.int()? as u64);
        Ok(last)
    })?;
    check_len(column, len)
}

/// Writes a column of things by `each`: as a list of one if all are equal.
pub(crate) fn write_column<T: PartialEq>(out: &mut Out, column: &[T], each: impl Fn(&mut Out, &T)) {
    let same = column.split_first().is_some_and(|(first, rest)| rest.iter().all(|item| item == first));
    let written = if same { column.get(..1).unwrap_or_default() } else { column };
    out.list(written.iter(), |out, item| each(out, item));
}

/// Reads a column of `len` things.
pub(crate) fn read_column<T: Clone>(
    input: &mut In<'_>,
    len: usize,
    each: impl Fn(&mut In<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let column = input.list(each)?;
    match (column.as_slice(), len) {
        ([same], len) => Ok(vec![same.clone(); len]),
        _ => check_len(column, len),
    }
}

fn check_len<T>(column: Vec<T>, len: usize) -> Result<Vec<T>, DecodeError> {
    match column.len() == len {
        true => Ok(column),
        false => Err(DecodeError::Shape("a column of another length")),
    }
}

/// Writes a value, or its absence, in the short form.
pub(crate) fn write_value(out: &mut Out, value: &Option<Value>) {
    match value {
        Some(Value::Text(text)) => write_text(out, text),
        other => encode_optional_value(out, other.as_ref()),
    }
}

/// Reads what [`write_value`] wrote.
pub(crate) fn read_value(input: &mut In<'_>) -> Result<Option<Value>, DecodeError> {
    match input.kind()? {
        Type::Tag => match input.tag()? {
            crate::value::DECIMAL_TAG => Value::decimal(input.text()?).map(Some),
            tag => read_tagged_text(input, tag).map(|text| Some(Value::Text(text))),
        },
        _ => decode_optional_value(input),
    }
}

/// Writes a text in the short form.
pub(crate) fn write_text(out: &mut Out, text: &str) {
    if let Some(bytes) = uuid_bytes(text) {
        out.tag(TAG_UUID).bytes(&bytes);
    } else if let Some(days) = days_of(text) {
        out.tag(TAG_DAYS).int(days);
    } else {
        out.text(text);
    }
}

/// Reads what [`write_text`] wrote.
pub(crate) fn read_text(input: &mut In<'_>) -> Result<String, DecodeError> {
    match input.kind()? {
        Type::Tag => {
            let tag = input.tag()?;
            read_tagged_text(input, tag)
        }
        _ => input.text().map(str::to_owned),
    }
}

fn read_tagged_text(input: &mut In<'_>, tag: u64) -> Result<String, DecodeError> {
    match tag {
        TAG_UUID => {
            let bytes: [u8; 16] =
                input.bytes()?.try_into().map_err(|_| DecodeError::Shape("UUID of another length"))?;
            Ok(uuid::Uuid::from_bytes(bytes).hyphenated().to_string())
        }
        TAG_DAYS => date_of(input.int()?).ok_or(DecodeError::Shape("date out of range")),
        _ => Err(DecodeError::Shape("unknown tag in a column")),
    }
}

/// The bytes of a UUID that is written exactly as we would write it back.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let uuid = (text.len() == 36).then(|| uuid::Uuid::try_parse(text).ok())??;
    (uuid.hyphenated().to_string() == text).then(|| uuid.into_bytes())
}

/// 1970-01-01, from which tag 100 counts (RFC 8943).
const EPOCH: Date = date(1970, 1, 1);

/// Days since the epoch of a date that is written exactly as we would write it back.
fn days_of(text: &str) -> Option<i64> {
    let date: Date = (text.len() == 10).then(|| text.parse().ok())??;
    (date.to_string() == text).then(|| date.duration_since(EPOCH).as_hours() / 24)
}

fn date_of(days: i64) -> Option<String> {
    let span = Span::new().try_days(days).ok()?;
    EPOCH.checked_add(span).ok().map(|date| date.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_to_the_letter() {
        for text in [
            "",
            "x",
            "2026-11-21",
            "2024-02-29",
            "2023-02-29",
            "1000-01-01",
            "9999-12-31",
            "0999-01-01",
            "2026-13-01",
            "+026-01-01",
            "0195a1c2-7f00-7abc-8def-0123456789ab",
            "0195A1C2-7f00-7abc-8def-0123456789ab",
            "0195a1c27f007abc8def0123456789ab0000",
        ] {
            let mut out = Out::new();
            write_text(&mut out, text);
            let bytes = out.finish();
            assert_eq!(read_text(&mut In::new(&bytes)).unwrap(), text);
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_a_date_and_back() {
        for days in -62_000..84_000 {
            assert_eq!(days_of(&date_of(days).unwrap()), Some(days));
        }
    }

    #[test]
    fn columns_come_back() {
        for column in [vec![], vec![5], vec![5, 5, 5], vec![1, u64::MAX, 0, 7]] {
            let mut out = Out::new();
            write_ints(&mut out, &column);
            let bytes = out.finish();
            assert_eq!(read_ints(&mut In::new(&bytes), column.len()).unwrap(), column);
        }
    }
}
