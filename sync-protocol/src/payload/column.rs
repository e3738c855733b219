//! Columns of values: how many alike things are laid out in a frame, so that what repeats stands together.
//!
//! A column is `[value]` if all are equal, else `[form, ...]` in the form that seems shortest: `[0, [value...]]`,
//! `[1, numbers]`, `[2, decimals, numbers]`, `[3, days since 1970 as numbers]`, `[4, [distinct values], indices as numbers]`,
//! `[5, 74 bits each, milliseconds as numbers]` for UUIDs of version 7, `[6, least letters, letters counted, numbers]` for
//! texts of one length. UUIDs and dates outside of these are written as CBOR tags 37 and 100.

use std::collections::BTreeMap;

use minicbor::data::Type;

use super::numbers::{numbers_weight, pack_bits, read_numbers, unpack_bits, write_numbers};
use super::text::{Pattern, UUID_7_BITS, date_of, days_of, uuid_7, uuid_7_of, uuid_bytes};
use crate::cbor::{In, Out};
use crate::codec::{decode_optional_value, encode_optional_value};
use crate::error::DecodeError;
use crate::limits::FRAME_UNPACKED_BYTES_LIMIT;
use crate::value::Value;

const TAG_UUID: u64 = 37;
const TAG_DAYS: u64 = 100;

/// One item of a column as it is written: a value, or its absence.
pub(super) type Item<'a> = Option<&'a Value>;

/// About how many bytes of memory an item takes.
pub(super) fn weight(item: Item<'_>) -> usize {
    item.map_or(1, Value::size)
}

/// What the values of a frame may still come to: a value that is written once can stand for many, and a few bytes must not
/// become gigabytes.
pub(super) struct Room(usize);

impl Room {
    pub(super) fn new() -> Room {
        Room(FRAME_UNPACKED_BYTES_LIMIT)
    }

    pub(super) fn take(&mut self, weight: usize) -> Result<(), DecodeError> {
        let left = self.0.checked_sub(weight);
        self.0 = left.ok_or(DecodeError::TooLarge { what: "values of a frame", limit: FRAME_UNPACKED_BYTES_LIMIT })?;
        Ok(())
    }
}

/// What a column of values is written as, beside the numbers of each.
enum Form<'a> {
    Same(Item<'a>),
    List,
    Ints,
    Decimals(u32),
    Days,
    Distinct(Vec<Item<'a>>),
    Uuids(Vec<u128>),
    Pattern(Pattern),
}

/// Writes a column of values. `near_ms`, if not empty, has for each the milliseconds that a UUID's time is likely near.
pub(super) fn write_column(out: &mut Out, column: &[Item<'_>], near_ms: &[u64]) {
    let (form, numbers) = form(column, near_ms);
    match form {
        Form::Same(item) => return write_item(out.array(1), item),
        Form::List => return out.array(2).uint(0).list(column.iter().copied(), write_item).done(),
        Form::Ints => out.array(2).uint(1),
        Form::Decimals(decimals) => out.array(3).uint(2).uint(u64::from(decimals)),
        Form::Days => out.array(2).uint(3),
        Form::Distinct(distinct) => out.array(3).uint(4).list(distinct.into_iter(), write_item),
        Form::Uuids(rest) => out.array(3).uint(5).bytes(&pack_bits(rest.into_iter(), UUID_7_BITS)),
        Form::Pattern(pattern) => out.array(4).uint(6).bytes(&pattern.least).bytes(&pattern.counts),
    };
    write_numbers(out, &numbers);
}

/// Reads a column of `len` values; `near_ms` as it was when written.
pub(super) fn read_column(
    input: &mut In<'_>,
    len: usize,
    near_ms: &[u64],
    room: &mut Room,
) -> Result<Vec<Option<Value>>, DecodeError> {
    let parts = input.array()?;
    if parts == 1 {
        let same = read_item(input)?;
        room.take(len.saturating_mul(weight(same.as_ref())))?;
        return Ok(vec![same; len]);
    }
    let form = input.uint()?;
    let decimals = if (form, parts) == (2, 3) { input.u32()? } else { 0 };
    match (form, parts) {
        (0, 2) => {
            let column = input.list(read_item)?;
            check_len(&column, len)?;
            column.into_iter().map(|item| kept(item, room)).collect()
        }
        (1, 2) => each_number(input, len, room, |n| Some(Value::Int(n as i64))),
        (2, 3) if decimals <= DECIMALS_MAX => each_number(input, len, room, |n| Some(decimal(n as i64, decimals))),
        (3, 2) => each_number(input, len, room, |n| date_of(n as i64).map(Value::Text)),
        (4, 3) => {
            let distinct = input.list(read_item)?;
            let numbers = read_numbers(input, len)?;
            let total = numbers.iter().map(|n| distinct.get(*n as usize).map_or(0, |item| weight(item.as_ref()))).sum();
            room.take(total)?;
            let item = |n: u64| distinct.get(n as usize).cloned().ok_or(OUT_OF_RANGE);
            numbers.into_iter().map(item).collect()
        }
        (5, 3) => {
            let mut rest = unpack_bits(input.bytes()?, UUID_7_BITS, len)?.into_iter();
            let mut near = near_ms.iter();
            each_number(input, len, room, |n| {
                let ms = n.wrapping_add(near.next().copied().unwrap_or(0));
                Some(Value::Text(uuid_7(ms, rest.next()?)))
            })
        }
        (6, 4) => {
            let pattern = Pattern { least: input.bytes()?.to_vec(), counts: input.bytes()?.to_vec() };
            pattern.check()?;
            each_number(input, len, room, |n| Some(Value::Text(pattern.text(n))))
        }
        _ => Err(DecodeError::Shape("unknown form of a column")),
    }
}

const OUT_OF_RANGE: DecodeError = DecodeError::Shape("out of range in a column");

/// Reads numbers and makes an item of each.
fn each_number(
    input: &mut In<'_>,
    len: usize,
    room: &mut Room,
    mut item: impl FnMut(u64) -> Option<Value>,
) -> Result<Vec<Option<Value>>, DecodeError> {
    read_numbers(input, len)?.into_iter().map(|n| kept(Some(item(n).ok_or(OUT_OF_RANGE)?), room)).collect()
}

fn kept(item: Option<Value>, room: &mut Room) -> Result<Option<Value>, DecodeError> {
    room.take(weight(item.as_ref()))?;
    Ok(item)
}

fn check_len<T>(column: &[T], len: usize) -> Result<(), DecodeError> {
    match column.len() == len {
        true => Ok(()),
        false => Err(DecodeError::Shape("a column of another length")),
    }
}

/// Chooses the form. The weights are guesses of bytes before compression; a wrong one costs bytes and nothing else.
fn form<'a>(column: &[Item<'a>], near_ms: &[u64]) -> (Form<'a>, Vec<u64>) {
    let same = column.split_first().filter(|(first, rest)| rest.iter().all(|item| item == *first));
    if let Some((rest, millis)) = uuids(column, near_ms).filter(|_| same.is_none() || !near_ms.is_empty()) {
        return (Form::Uuids(rest), millis);
    } else if let Some((first, _)) = same {
        return match decimals(column).filter(|(decimals, _)| *decimals > 0) {
            Some((decimals, numbers)) => (Form::Decimals(decimals), numbers),
            None => (Form::Same(*first), Vec::new()),
        };
    }
    let mut forms = vec![(column.iter().copied().map(weight).sum::<usize>(), Form::List, Vec::new())];
    let mut offer =
        |extra: usize, form, numbers: Vec<u64>| forms.push((extra + numbers_weight(&numbers), form, numbers));
    let (distinct, indices) = distinct(column);
    if distinct.len() < column.len() {
        offer(distinct.iter().copied().map(weight).sum(), Form::Distinct(distinct), indices);
    }
    if let Some(texts) = each(column, |item| text(*item)) {
        if let Some(days) = each(&texts, |text| days_of(text).map(|days| days as u64)) {
            offer(0, Form::Days, days);
        } else if let Some((pattern, numbers)) = Pattern::of(&texts) {
            offer(2 * pattern.least.len(), Form::Pattern(pattern), numbers);
        }
    } else if let Some((decimals, numbers)) = decimals(column) {
        offer(1, if decimals == 0 { Form::Ints } else { Form::Decimals(decimals) }, numbers);
    }
    let shortest = forms.into_iter().min_by_key(|(weight, _, _)| *weight);
    shortest.map_or((Form::List, Vec::new()), |(_, form, numbers)| (form, numbers))
}

/// What `get` makes of each, if it makes something of all.
fn each<S, T>(column: &[S], get: impl Fn(&S) -> Option<T>) -> Option<Vec<T>> {
    column.iter().map(get).collect()
}

fn text(item: Item<'_>) -> Option<&str> {
    item.and_then(Value::as_text)
}

/// The distinct items in order of first use, and for each item which it is.
fn distinct<'a>(column: &[Item<'a>]) -> (Vec<Item<'a>>, Vec<u64>) {
    let mut index = BTreeMap::new();
    let mut distinct = Vec::new();
    let mut number = |item: &Item<'a>| {
        *index.entry(*item).or_insert_with(|| {
            distinct.push(*item);
            distinct.len() as u64 - 1
        })
    };
    let indices = column.iter().map(&mut number).collect();
    (distinct, indices)
}

/// Most digits after the point of a float that is written as a whole number.
const DECIMALS_MAX: u32 = 4;

/// The items as whole numbers with the fewest digits after the point.
fn decimals(column: &[Item<'_>]) -> Option<(u32, Vec<u64>)> {
    (0..=DECIMALS_MAX).find_map(|decimals| Some((decimals, each(column, |item| scaled(*item, decimals))?)))
}

/// The number `n` for which [`decimal`] gives the item back.
fn scaled(item: Item<'_>, decimals: u32) -> Option<u64> {
    let n = match item? {
        Value::Int(n) => n.checked_mul(10i64.pow(decimals))?,
        Value::Float(x) if x.get().abs() < 1e9 => (x.get() * f64::from(10u32.pow(decimals))).round() as i64,
        _ => return None,
    };
    (Some(&decimal(n, decimals)) == item).then_some(n as u64)
}

fn decimal(n: i64, decimals: u32) -> Value {
    let scale = 10i64.pow(decimals);
    match n % scale {
        0 => Value::Int(n / scale),
        // Both are exact as floats, so the quotient is the float nearest to the decimal fraction.
        _ => Value::from_json(&serde_json::Value::from(n as f64 / scale as f64)),
    }
}

fn uuids(column: &[Item<'_>], near_ms: &[u64]) -> Option<(Vec<u128>, Vec<u64>)> {
    let near = near_ms.iter().chain(std::iter::repeat(&0));
    let parts = column.iter().zip(near).map(|(item, near)| {
        let (ms, rest) = uuid_7_of(text(*item)?)?;
        Some((rest, ms.wrapping_sub(*near)))
    });
    parts.collect()
}

/// Writes a value, or its absence, in the short form.
fn write_item(out: &mut Out, item: Item<'_>) {
    match text(item) {
        Some(text) => {
            if let Some(bytes) = uuid_bytes(text) {
                out.tag(TAG_UUID).bytes(&bytes);
            } else if let Some(days) = days_of(text) {
                out.tag(TAG_DAYS).int(days);
            } else {
                out.text(text);
            }
        }
        None => encode_optional_value(out, item),
    }
}

/// Reads what [`write_item`] wrote.
fn read_item(input: &mut In<'_>) -> Result<Option<Value>, DecodeError> {
    if input.kind()? != Type::Tag {
        return decode_optional_value(input);
    }
    match input.tag()? {
        TAG_UUID => {
            let bytes: [u8; 16] =
                input.bytes()?.try_into().map_err(|_| DecodeError::Shape("UUID of another length"))?;
            Ok(Some(Value::Text(uuid::Uuid::from_bytes(bytes).hyphenated().to_string())))
        }
        TAG_DAYS => date_of(input.int()?).map(|date| Some(Value::Text(date))).ok_or(OUT_OF_RANGE),
        crate::value::DECIMAL_TAG => Value::decimal(input.text()?).map(Some),
        _ => Err(DecodeError::Shape("unknown tag in a column")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(column: &[Option<Value>], near_ms: &[u64]) -> Vec<u8> {
        let mut out = Out::new();
        write_column(&mut out, &column.iter().map(Option::as_ref).collect::<Vec<_>>(), near_ms);
        out.finish()
    }

    fn back(column: &[Option<Value>], near_ms: &[u64]) -> Vec<u8> {
        let bytes = written(column, near_ms);
        let mut input = In::new(&bytes);
        assert_eq!(read_column(&mut input, column.len(), near_ms, &mut Room::new()).unwrap(), column);
        input.end().unwrap();
        bytes
    }

    fn items(json: serde_json::Value) -> Vec<Option<Value>> {
        json.as_array().unwrap().iter().map(|value| Some(Value::from_json(value))).collect()
    }

    #[test]
    fn columns_come_back_to_the_letter() {
        let texts = [
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
            "0195a1c2-7f00-4abc-8def-0123456789ab",
            "0195a1c27f007abc8def0123456789ab0000",
            "OP-26-00017",
            "OP-26-99123",
            "\u{e4}b",
            "~~",
            "  ",
            "A0-9",
            "B9-0",
        ];
        let all: Vec<Option<Value>> = texts.iter().map(|text| Some(Value::Text((*text).to_owned()))).collect();
        for item in &all {
            back(std::slice::from_ref(item), &[]);
            back(std::slice::from_ref(item), &[1_780_000_000_000]);
            for other in &all {
                back(&[item.clone(), other.clone(), item.clone(), None], &[]);
                back(&[item.clone(), other.clone()], &[u64::MAX, 1]);
            }
        }
        back(&all, &[]);
        for column in [
            serde_json::json!([36.8, 37, -0.1, 12.25, 99.9999]),
            serde_json::json!([36.8, 1e300, 0.123456789012345, 5]),
            serde_json::json!([i64::MIN, i64::MAX, 0, -1]),
            serde_json::json!([i64::MIN, 0.5]),
            serde_json::json!([["B54"], ["B54", "A09"], ["B54"], null, true, {"a": [1]}]),
            serde_json::json!([]),
        ] {
            back(&items(column), &[]);
        }
    }

    #[test]
    fn what_varies_little_takes_few_bits() {
        let ids: Vec<Option<Value>> =
            (0..100).map(|n| Some(Value::Text(uuid_7(1_780_000_000_000 + n, u128::from(n) << 30)))).collect();
        let near: Vec<u64> = (0..100).map(|n| 1_780_000_000_000 + n).collect();
        assert_eq!(back(&ids, &near).len(), 6 + 925);
        let codes: Vec<Option<Value>> = (0..100).map(|n| Some(Value::Text(format!("OP-26-{:05}", n * 991)))).collect();
        assert!(back(&codes, &[]).len() <= 30 + 213);
    }

    #[test]
    fn a_few_bytes_do_not_become_gigabytes() {
        let long = Some(Value::Text("x".repeat(100_000)));
        for column in [vec![long.clone(); 2], vec![long, None]] {
            let bytes = written(&column, &[]);
            let mut room = Room::new();
            let read = |room: &mut Room| read_column(&mut In::new(&bytes), 2, &[], room);
            let refused = (0..100).find_map(|_| read(&mut room).err());
            assert!(matches!(refused, Some(DecodeError::TooLarge { .. })), "{refused:?}");
        }
    }
}
