//! The wire, byte by byte: every message as it was the first time, written and read back.
//!
//! The bytes are in `tests/golden/*.hex`, and `docs/protocol.md` names each file. A change of one of them is a change of the
//! protocol: gateways in the field would not understand it. A new file is made by running with `GOLDEN_WRITE=1`.

#![expect(clippy::unwrap_used, clippy::string_slice, reason = "a test may fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;
use sync_protocol::clock::{Hlc, TimeQuality};
use sync_protocol::difference::{Encoder, pack, unpack};
use sync_protocol::digest::{Chain, item, op_hash};
use sync_protocol::erase::Erased;
use sync_protocol::error::DecodeError;
use sync_protocol::frame::{Effort, Packer, split};
use sync_protocol::id::{Author, Device, Dot, Epoch, FieldName, HubSeq, Origin, RecordKey, Scope, Seq, Source, Stream};
use sync_protocol::message::{
    About, Ack, AckRange, Bound, Condition, Gap, Plea, Request, Rescue, Rescued, Reserve, Response, Slice, Status,
    StreamHead, View, body, split_head,
};
use sync_protocol::payload::{News, Notice, Payload, Reach, Row, Rows};
use sync_protocol::record::{Cell, Change, CounterState, Entry, LogState, Op, Record, SetState, Stamp, State, Touch};
use sync_protocol::value::Value;

const PROTOCOL: &str = include_str!("../../docs/protocol.md");
const T: u64 = 1_780_000_000_000;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.hex")].iter().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The bytes of a file, which must be these.
fn golden(name: &str, bytes: &[u8]) -> Vec<u8> {
    if std::env::var_os("GOLDEN_WRITE").is_some() && !path(name).exists() {
        std::fs::write(path(name), hex(bytes) + "\n").unwrap();
    }
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|e| panic!("{name}.hex: {e}"));
    assert_eq!(text.trim(), hex(bytes), "{name}");
    unhex(&text)
}

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

fn name(s: &str) -> FieldName {
    FieldName::new(s).unwrap()
}

fn key(s: &str) -> RecordKey {
    RecordKey::parse(s).unwrap()
}

fn dot(origin: u32, seq: u64) -> Dot {
    Dot { origin: Origin(origin), stream: Stream::Normal, seq: Seq(seq) }
}

/// A stamp in which everything that has a default has it.
fn bare(origin: u32, seq: u64) -> Stamp {
    Stamp {
        dot: dot(origin, seq),
        hlc: Hlc::at(T),
        seen: HubSeq(3),
        hseq: HubSeq::NONE,
        captured_ms: T as i64,
        quality: TimeQuality::Unknown,
        source: Source::CLINIC,
        author: None,
        settles: None,
    }
}

/// A stamp in which nothing has its default.
fn full(origin: u32, seq: u64) -> Stamp {
    Stamp {
        captured_ms: T as i64 - 1_000,
        quality: TimeQuality::Good,
        source: Source::HUB,
        author: Some(Author::new("nurse").unwrap()),
        settles: Some(Arc::from("asked her")),
        ..bare(origin, seq)
    }
}

fn at(stamp: Stamp, hseq: u64) -> Arc<Stamp> {
    Arc::new(Stamp { hseq: HubSeq(hseq), ..stamp })
}

fn op(stamp: Stamp, id: &str, changes: impl IntoIterator<Item = (&'static str, Change)>) -> Op {
    let changes = changes.into_iter().map(|(field, change)| (name(field), change)).collect();
    Op { stamp, key: key(id), changes }
}

fn register(changed: u64, entries: impl IntoIterator<Item = (Arc<Stamp>, Option<Value>)>) -> Cell {
    let entries = entries.into_iter().map(|(stamp, value)| Entry { stamp, value }).collect();
    Cell { changed: HubSeq(changed), state: State::Register(entries) }
}

fn record(cells: impl IntoIterator<Item = (&'static str, Cell)>) -> Record {
    Record { cells: cells.into_iter().map(|(field, cell)| (name(field), cell)).collect() }
}

const ID: &str = "patient/0195a1c2-7f00-7abc-8def-0123456789ab";

fn ops() -> Vec<(&'static str, Op)> {
    let put = |value| Change::Put { value, unseen: Vec::new() };
    let plain = op(
        Stamp { author: Some(Author::new("nurse").unwrap()), ..bare(7, 1) },
        ID,
        [
            ("born", put(Some(text("1990-05-17")))),
            ("name", put(Some(text("Asha")))),
            ("phone", put(None)),
            ("weight", put(Some(Value::from_json(&serde_json::json!(36.8))))),
        ],
    );
    let members = BTreeMap::from([((Origin(4), 1), 2)]);
    let odd = op(
        full(7, 2),
        ID,
        [
            ("alive", Change::Put { value: Some(text("alive")), unseen: vec![dot(7, 1), dot(4, 9)] }),
            ("allergies", Change::Members { add: vec![text("latex")], remove: vec![(text("dust"), members)] }),
            ("notes", Change::Append(vec![text("seen"), Value::Null])),
            ("visits", Change::Count { plus: 5, minus: 2 }),
        ],
    );
    vec![
        ("stamp-bare", op(bare(7, 1), ID, [])),
        ("stamp-full", op(full(7, 1), ID, [])),
        ("op-plain", plain),
        ("op-odd", odd),
    ]
}

fn touch(last: &Arc<Stamp>, basis: u64) -> Touch {
    Touch { last: Arc::clone(last), basis: HubSeq(basis) }
}

fn collections() -> Record {
    let (one, two) = (at(bare(7, 1), 4), at(full(4, 2), 5));
    let set = SetState {
        touch: touch(&two, 4),
        clock: BTreeMap::from([((Origin(7), 1), 1), ((Origin(4), 1), 2)]),
        members: BTreeMap::from([
            (text("dust"), BTreeMap::from([((Origin(7), 1), 1)])),
            (text("latex"), BTreeMap::from([((Origin(4), 1), 2)])),
        ]),
        ahead: BTreeMap::new(),
    };
    let entries = [(one.hlc, one.dot, 0, text("a")), (two.hlc, two.dot, 0, text("b"))];
    let log = LogState { touch: touch(&two, 4), entries: BTreeSet::from(entries) };
    let counter =
        CounterState { touch: touch(&one, 0), totals: BTreeMap::from([(Origin(4), (3, 0)), (Origin(7), (10, 4))]) };
    record([
        ("allergies", Cell { changed: HubSeq(5), state: State::Set(set) }),
        ("notes", Cell { changed: HubSeq(5), state: State::Log(log) }),
        ("visits", Cell { changed: HubSeq(4), state: State::Counter(counter) }),
    ])
}

/// Of a writer more was taken out of a set than has come of him.
fn ahead() -> Record {
    let one = at(bare(7, 1), 4);
    let set = SetState {
        touch: touch(&one, 0),
        clock: BTreeMap::from([((Origin(7), 1), 1)]),
        members: BTreeMap::new(),
        ahead: BTreeMap::from([(text("latex"), BTreeMap::from([((Origin(4), 1), 2)]))]),
    };
    record([("allergies", Cell { changed: HubSeq(4), state: State::Set(set) })])
}

fn records() -> Vec<(&'static str, Record)> {
    let (one, two) = (at(bare(7, 1), 4), at(full(4, 2), 5));
    let plain = record([
        ("@scope", register(4, [(Arc::clone(&one), Some(text("mw/zomba")))])),
        ("born", register(4, [(Arc::clone(&one), Some(text("1990-05-17")))])),
        ("phone", register(4, [(Arc::clone(&one), None)])),
    ]);
    let rivals = record([
        ("@deleted", register(5, [(Arc::clone(&two), Some(Value::Bool(true)))])),
        ("alive", register(5, [(two, Some(text("dead"))), (Arc::clone(&one), Some(text("alive")))])),
        ("name", register(6, [(one, Some(text("Asha")))])),
    ]);
    vec![
        ("record-plain", plain),
        ("record-rivals", rivals),
        ("record-collections", collections()),
        ("record-ahead", ahead()),
    ]
}

fn idle() -> Request {
    Request {
        device: Device(12),
        origin: Origin(7),
        turn: 300,
        proof: [1, 2, 3, 4, 5, 6, 7, 8],
        epoch: Epoch(1),
        cursor: HubSeq(40_000),
        streams: Vec::new(),
        rules: [0xa0; 4],
        ahead_seconds: Some(-2),
        budget_frames: 16,
        backfill: None,
        repair: None,
        pleas: Vec::new(),
        about: None,
        repairs: 0,
        bounds: Vec::new(),
        recovers: None,
        asks: false,
        rescue: None,
        condition: None,
        gaps: Vec::new(),
        slice: None,
        complete: None,
        erased: None,
    }
}

fn symbols() -> Vec<u8> {
    let mut encoder = Encoder::new(4, [1, 0x0123_4567_89ab_cdef, u64::MAX]);
    pack(&encoder.symbols(4), 0, encoder.item_count())
}

fn requests() -> Vec<(&'static str, Request)> {
    let stream = |stream, last, age_seconds| StreamHead { stream, acked: Seq(20), chain: [0xc0; 8], last, age_seconds };
    let bound = Bound { stream: Stream::Normal, upto: Seq(25), common: HubSeq(39_000) };
    let gap = Gap { stream: Stream::Normal, upto: Seq(22), chain: Chain([0xc3; 32]) };
    let about = About {
        version: "0.1.0".to_owned(),
        disk_free: 12_000_000_000,
        records: 5_000,
        print: [0xd0; 8],
        view: [0xe0; 4],
    };
    let condition = Condition {
        is_power_weak: true,
        is_slowed: false,
        is_clockless: true,
        worn_percent: Some(70),
        reserve: Reserve::Low,
    };
    let heads = vec![stream(Stream::Urgent, Seq(20), 0), stream(Stream::Normal, Seq(25), 90_000)];
    vec![
        ("request-idle", idle()),
        ("request-waiting", Request { streams: heads, ..idle() }),
        ("request-defaults", Request { ahead_seconds: None, budget_frames: 0, ..idle() }),
        ("request-backfill", Request { backfill: Some(HubSeq(0)), ..idle() }),
        ("request-repair", Request { repair: Some(symbols()), repairs: 2, ..idle() }),
        (
            "request-pleas",
            Request {
                pleas: vec![Plea { dot: dot(7, 3), discard: false }, Plea { dot: dot(7, 5), discard: true }],
                ..idle()
            },
        ),
        (
            "request-recovery",
            Request { bounds: vec![bound], recovers: Some(HubSeq(39_000)), slice: Slice::new(64, 5), ..idle() },
        ),
        ("request-rescue", Request { rescue: Some(Rescue::Apart), ..idle() }),
        ("request-broken-off", Request { complete: Some(HubSeq(39_000)), ..idle() }),
        ("request-about", Request { about: Some(about), ..idle() }),
        ("request-erased", Request { erased: Some(T), ..idle() }),
        ("request-condition", Request { condition: Some(condition), ..idle() }),
        ("request-gaps", Request { bounds: vec![bound], gaps: vec![gap], ..idle() }),
    ]
}

fn responses() -> Vec<(&'static str, Response)> {
    let of = |status| Response::new(status, Epoch(1), T, HubSeq(40_010));
    let ok = || of(Status::Ok);
    let refused = |status, why: &str| Response { reason: Some(why.to_owned()), ..of(status) };
    let ack = |ranges| Ack { stream: Stream::Normal, acked: Seq(25), chain: [0xc1; 8], durable: Seq(20), ranges };
    let range = |first, count, hseq| AckRange { first: Seq(first), count, hseq: HubSeq(hseq) };
    let scopes = vec![Scope::new("mw/zomba").unwrap(), Scope::new("mw/blantyre/ndirande").unwrap()];
    let agreed = vec![(Stream::Urgent, Seq(3)), (Stream::Normal, Seq(25))];
    let rescued = Rescued { known: 7, taken: 300, held: 1, waiting: 0, agreed };
    vec![
        ("response-idle", Response { turn: Some(301), digest: Some(0x0123_4567_89ab_cdef), ..ok() }),
        (
            "response-acks",
            Response {
                turn: Some(301),
                acks: vec![ack(vec![range(21, 3, 40_001), range(25, 1, 40_009)])],
                more: true,
                ..ok()
            },
        ),
        ("response-new-origin", Response { origin: Some(Origin(31)), ..refused(Status::NewOrigin, "it does not fit") }),
        (
            "response-twin",
            Response { origin: Some(Origin(32)), device: Some(Device(13)), ..refused(Status::NewOrigin, "a twin") },
        ),
        ("response-denied", refused(Status::Denied, "revoked")),
        ("response-rebase", Response { acks: vec![ack(Vec::new())], ..refused(Status::Rebase, "another epoch") }),
        ("response-upgrade", refused(Status::Upgrade, "speaks version 1")),
        (
            "response-revoked",
            Response {
                acks: vec![ack(Vec::new())],
                more: true,
                ..Response::new(Status::Revoked, ok().epoch, T, ok().cursor)
            },
        ),
        ("response-view", Response { view: Some(View { scopes, source: Source(2), backfill: true }), ..ok() }),
        ("response-rules", Response { rules: Some(Arc::from("version = 1\n")), ..ok() }),
        ("response-drop", Response { drop: vec![1, 0x0123_4567_89ab_cdef], ..ok() }),
        ("response-want", Response { want: vec![1, 0x0123_4567_89ab_cdef], symbols: Some(208), more: true, ..ok() }),
        ("response-rescued", Response { rescued: Some(rescued), ..ok() }),
        ("response-erased", Response { erased: vec![Erased { number: T, name: [0xf0; 16] }], ..ok() }),
        ("response-symbols", Response { symbols: Some(832), ..ok() }),
        ("response-gaps", Response { turn: Some(301), takes_gaps: true, ..ok() }),
        ("response-slice", Response { symbols: Some(208), slice: Slice::new(64, 6), more: true, ..ok() }),
    ]
}

/// Ten writes of one shape, with a column in each form.
fn columns() -> Vec<Op> {
    let one = |n: u64| {
        let mut stamp = bare(7, n);
        stamp.hlc = Hlc(stamp.hlc.0 + ((n * 61_000) << 16) + n % 2);
        stamp.captured_ms = stamp.hlc.unix_ms() as i64;
        let ms = stamp.hlc.unix_ms() - 40;
        let id = format!("visit/{:08x}-{:04x}-7abc-8def-0123456789{n:02x}", ms >> 16, ms & 0xffff);
        let day = format!("2026-05-{:02}", 10 + n * n % 7);
        let outcome = if n % 2 == 0 { "admitted to the ward" } else { "sent home with medicine" };
        let columns = [
            ("a_same", text("mw/zomba")),
            ("b_list", text(&"word ".repeat(n as usize % 4))),
            ("c_integer", Value::Int(60 + (n * 37 % 50) as i64)),
            ("d_decimal", Value::from_json(&serde_json::json!(36.0 + (n * 7 % 20) as f64 / 10.0))),
            ("e_date", text(&day)),
            ("f_distinct", text(outcome)),
            ("g_uuid", text(&format!("0195a1c2-7f{n:02x}-7abc-8def-0123456789ab"))),
            ("h_pattern", text(&format!("OP-26-{:05}", n * 12_345))),
            ("i_as_before", text(&day)),
        ];
        op(stamp, &id, columns.map(|(name, value)| (name, Change::put(value))))
    };
    (1..=10).map(one).collect()
}

fn payloads() -> Vec<(&'static str, Payload)> {
    let put = |value: &str| Change::put(text(value));
    let visit = |seq, id: &str, day| op(bare(7, seq), id, [("day", put(day)), ("ward", put("a"))]);
    let mut plain = vec![visit(1, "visit/1", "2026-05-17"), visit(2, "visit/2", "2026-05-18")];
    plain.push(op(bare(7, 3), "patient/9", [("name", put("Asha"))]));
    let [_, _, _, (_, odd)] = &ops()[..] else { panic!("four ops") };
    let odd = vec![visit(1, "visit/1", "2026-05-17"), odd.clone(), visit(3, "visit/3", "2026-05-17")];
    let [(_, first), (_, rivals), (_, collections), ..] = &records()[..] else { panic!("the first three records") };
    let cells = |id: &str, record: &Record, whole| Row::Cells { key: key(id), record: record.clone(), whole };
    let second = record([
        ("@scope", register(9, [(at(bare(4, 8), 9), Some(text("mw/zomba")))])),
        ("born", register(9, [(at(bare(4, 8), 9), Some(text("2001-01-01")))])),
        ("phone", register(9, [(at(bare(4, 8), 9), Some(text("1")))])),
    ]);
    let notice = |seq, news| Row::Notice(Notice { dot: dot(7, seq), key: key("visit/1"), news });
    let reaches = |cursor, backfill| Reach { cursor: HubSeq(cursor), backfill };
    let rows = |reaches, rows| Payload::Rows(Rows { reaches, rows });
    let news = vec![
        notice(1, News::Held("waits for patient/1".to_owned())),
        notice(2, News::Released(HubSeq(44))),
        notice(3, News::Discarded("dropped at the gateway".to_owned())),
        Row::Evict(key("patient/9")),
    ];
    vec![
        ("ops-plain", Payload::Ops(plain)),
        ("ops-odd", Payload::Ops(odd)),
        ("ops-columns", Payload::Ops(columns())),
        (
            "rows-plain",
            rows(reaches(9, None), vec![cells("patient/1", first, false), cells("patient/2", &second, false)]),
        ),
        (
            "rows-odd",
            rows(
                reaches(9, None),
                vec![
                    cells("patient/1", rivals, false),
                    cells("patient/2", &second, false),
                    cells("patient/3", collections, false),
                ],
            ),
        ),
        ("rows-news", rows(reaches(44, None), news)),
        ("rows-backfill", rows(reaches(40, Some(HubSeq(9))), vec![cells("patient/2", &second, false)])),
        ("rows-repair", rows(Reach::default(), vec![cells("patient/2", &second, true)])),
    ]
}

#[test]
fn ops_and_records() {
    for (name, op) in ops() {
        assert_eq!(Op::from_canonical(&golden(name, &op.canonical())).unwrap(), op, "{name}");
    }
    for (name, record) in records() {
        assert_eq!(Record::from_canonical(&golden(name, &record.canonical())).unwrap(), record, "{name}");
    }
}

#[test]
fn heads() {
    for (name, request) in requests() {
        assert_eq!(Request::decode(&golden(name, &request.encode())).unwrap(), request, "{name}");
    }
    for (name, response) in responses() {
        assert_eq!(Response::decode(&golden(name, &response.encode())).unwrap(), response, "{name}");
    }
}

#[test]
fn frames_and_what_is_in_them() {
    for (name, payload) in payloads() {
        assert_eq!(Payload::decode(&golden(name, &payload.encode())).unwrap(), payload, "{name}");
    }
    // Too short to be compressed, so that the bytes do not depend on the compressor.
    let mut packer = Packer::new(Effort::Quick).unwrap();
    let payload = Payload::Rows(Rows { reaches: Reach::default(), rows: vec![Row::Evict(key("patient/9"))] });
    let frame = golden("frame-raw", &packer.pack(&payload.encode()).unwrap());
    let (inside, taken) = split(&frame).unwrap().unwrap();
    assert_eq!((Payload::decode(&packer.unpack(inside).unwrap()).unwrap(), taken), (payload, frame.len()));
    let whole = golden("body", &body(&idle().encode(), [frame.clone()]));
    let (head, start) = split_head(&whole).unwrap().unwrap();
    assert_eq!((Request::decode(head).unwrap(), &whole[start..]), (idle(), &frame[..]));
}

#[test]
fn proofs() {
    let chain = ops().iter().fold(Chain::default(), |chain, (_, op)| chain.extend(op));
    golden("chain", &chain.0);
    golden("op-hash", &op_hash(&ops()[2].1));
    golden("item", &item(&key(ID), &records()[0].1).to_le_bytes());
    let packed = golden("symbols", &symbols());
    let again = Encoder::new(4, [1, 0x0123_4567_89ab_cdef, u64::MAX]).symbols(4);
    assert_eq!(unpack(&packed, 0, 4).unwrap(), again);
}

/// Reads bytes as each kind of message that can come from outside; tells how many took them.
fn decode_all(bytes: &[u8]) -> usize {
    let taken = [
        Request::decode(bytes).is_ok(),
        Response::decode(bytes).is_ok(),
        Payload::decode(bytes).is_ok(),
        Op::from_canonical(bytes).is_ok(),
        Record::from_canonical(bytes).is_ok(),
    ];
    taken.into_iter().filter(|taken| *taken).count()
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let requests = requests().into_iter().map(|(name, m)| (name, m.encode()));
    let responses = responses().into_iter().map(|(name, m)| (name, m.encode()));
    let payloads = payloads().into_iter().map(|(name, m)| (name, m.encode()));
    let ops = ops().into_iter().map(|(name, m)| (name, m.canonical()));
    let records = records().into_iter().map(|(name, m)| (name, m.canonical()));
    requests.chain(responses).chain(payloads).chain(ops).chain(records).collect()
}

#[test]
fn cut_and_overlong_messages_are_refused_at_every_byte() {
    for (name, bytes) in messages() {
        assert_eq!(decode_all(&bytes), 1, "{name}");
        for cut in 0..bytes.len() {
            assert_eq!(decode_all(&bytes[..cut]), 0, "{name} cut at {cut}");
        }
        for more in [0x00, 0xf6, 0xff] {
            let longer = [&bytes[..], &[more]].concat();
            assert_eq!(decode_all(&longer), 0, "{name} and {more:02x}");
        }
    }
}

/// The bytes of a head with another key at the end of its map: `99: [1, {"a": null}]`. `map_at` is where the map begins.
fn with_unknown_key(head: &[u8], map_at: usize) -> Vec<u8> {
    let (items, map) = head.split_at(map_at);
    let (map, entries) = map.split_first().unwrap();
    assert!((0xa0..0xb7).contains(map), "a short map");
    [items, &[map + 1], entries, &[0x18, 99, 0x82, 0x01, 0xa1, 0x61, b'a', 0xf6]].concat()
}

/// Where the map of a head begins: as many items are before it.
fn map_at(head: &[u8], items: usize) -> usize {
    let mut input = minicbor::Decoder::new(head);
    input.array().unwrap();
    (0..items).for_each(|_| input.skip().unwrap());
    input.position()
}

#[test]
fn unknown_keys_of_a_head_are_skipped() {
    for (_, request) in requests() {
        let bytes = request.encode();
        assert_eq!(Request::decode(&with_unknown_key(&bytes, map_at(&bytes, 9))).unwrap(), request);
    }
    for (_, response) in responses() {
        let bytes = response.encode();
        assert_eq!(Response::decode(&with_unknown_key(&bytes, map_at(&bytes, 4))).unwrap(), response);
    }
}

#[test]
fn another_protocol_version_is_told_from_damage() {
    let mut bytes = idle().encode();
    assert_eq!(bytes[..2], [0x8a, 1], "ten items, version 1");
    bytes[1] = 2;
    assert!(matches!(Request::decode(&bytes), Err(DecodeError::Version(_))));
}

proptest! {
    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        decode_all(&bytes);
    }

    #[test]
    fn damaged_messages_are_survived(
        which: prop::sample::Index, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let messages = messages();
        let (_, mut bytes) = which.get(&messages).clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        decode_all(&bytes);
    }
}

#[test]
fn the_document_names_every_limit() {
    let constants = include_str!("../src/limits.rs").lines().filter_map(|line| line.strip_prefix("pub const "));
    let mut count = 0;
    for line in constants {
        let (name, rest) = line.split_once(": ").unwrap();
        let (_, rest) = rest.split_once(" = ").unwrap();
        let factors = rest.trim_end_matches(';').split(" * ");
        let value: usize = factors.map(|factor| factor.replace('_', "").parse::<usize>().unwrap()).product();
        let row = format!("| `{name}` | {value} |");
        assert!(PROTOCOL.contains(&row), "docs/protocol.md lacks {row}");
        count += 1;
    }
    assert!(count > 15, "limits.rs is read in another way than it is written");
}

#[test]
fn the_document_names_every_file_and_prints_the_short_ones() {
    for entry in std::fs::read_dir(path("x").parent().unwrap()).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(PROTOCOL.contains(&format!("`{name}`")), "docs/protocol.md does not name {name}");
    }
    let printed: String = PROTOCOL.split_whitespace().collect();
    let short =
        ["stamp-bare", "stamp-full", "op-plain", "record-plain", "request-idle", "response-idle", "frame-raw", "item"];
    for name in short {
        let text = std::fs::read_to_string(path(name)).unwrap();
        assert!(printed.contains(text.trim()), "docs/protocol.md does not print {name}.hex");
    }
}

#[test]
fn the_document_prints_the_vectors_of_values() {
    let source = include_str!("../src/value.rs");
    let (_, vectors) = source.split_once("fn canonical_vectors").unwrap();
    let (vectors, _) = vectors.split_once("] {").unwrap();
    let bytes: Vec<&str> =
        vectors.lines().filter_map(|line| line.trim().strip_suffix("\"),")?.rsplit('"').next()).collect();
    assert!(bytes.len() > 15, "{bytes:?}");
    for bytes in bytes {
        assert!(PROTOCOL.contains(&format!("`{bytes}`")), "docs/protocol.md lacks {bytes}");
    }
}
