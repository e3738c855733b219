//! What goes over the wire, counted to the byte against the targets of the thin link, on the protocol alone.
//!
//! `cargo test -p outpost-tests --lib wire -- --nocapture` prints the table. All records are synthetic: they come from the
//! seeded [`Generator`] and go through the same capture as an app's writes. Seeds and dates differ from those that
//! `train-dictionary` uses. Bytes of HTTP and TLS are not counted here.

use std::sync::Arc;

use sync_protocol::clock::TimeQuality;
use sync_protocol::gateway::{self, Capture, Intent, Store as _};
use sync_protocol::id::{Author, RecordKey, Scope, Source};
use sync_protocol::identity::DeviceKey;
use sync_protocol::loopback::{Link, settle};
use sync_protocol::memory::{MemoryGateway, MemoryHub};
use sync_protocol::rules::Rules;

use crate::generator::{Generated, Generator};

/// When the hubs were started: January of 2027.
const HUB_STARTED_MS: u64 = 1_800_000_000_000;

/// A gateway and its hub in memory, on a clock that the records move.
#[derive(Debug)]
pub struct Clinic {
    /// The gateway, enrolled at the facility.
    pub gateway: MemoryGateway,
    /// The hub.
    pub hub: MemoryHub,
    /// The wall clock of both, milliseconds since 1970.
    pub now_ms: i64,
}

impl Clinic {
    /// A clinic at this scope, with nothing in it.
    ///
    /// # Errors
    /// None in practice: stores in memory do not fail.
    pub fn new(scope: &str) -> anyhow::Result<Clinic> {
        let rules = Arc::new(Rules::parse("version = 1\n")?);
        let mut hub = MemoryHub::default();
        hub.publish(Arc::clone(&rules));
        // Its numbers are as large as those of any hub.
        hub.start(HUB_STARTED_MS);
        let scopes = vec![Scope::new(scope)?];
        let known = hub.enroll(scopes.clone(), Source::CLINIC, DeviceKey([0x9d; 32]));
        let mut gateway = MemoryGateway::default();
        let mut state = gateway.state()?;
        (state.device, state.origin, state.key, state.scopes) = (known.device, known.origin, known.key, scopes);
        gateway.set_state(&state)?;
        gateway.set_rules(rules)?;
        Ok(Clinic { gateway, hub, now_ms: 0 })
    }

    fn put(&mut self, record: &Generated) -> anyhow::Result<()> {
        gateway::capture(&mut self.gateway, wish(record, self.now_ms)?)?;
        Ok(())
    }

    /// Captures a record as it is saved: some tenths of a second after the app gave it its id.
    ///
    /// # Errors
    /// What the capture refuses.
    pub fn save(&mut self, record: &Generated) -> anyhow::Result<()> {
        let minted_ms = uuid_ms(&record.id);
        self.now_ms = minted_ms + 20 + minted_ms % 181;
        self.put(record)
    }

    /// Exchanges until nothing is left to say. Fails with what the exchange reports.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        settle(&mut self.gateway, &mut self.hub, &mut Link::new()?, self.now_ms.unsigned_abs(), 1_000)?;
        Ok(())
    }
}

fn wish(record: &Generated, now_ms: i64) -> anyhow::Result<Capture> {
    Ok(Capture {
        key: RecordKey::new(record.record_type, &record.id)?,
        intent: Intent::Put(record.body.clone()),
        base: None,
        author: Some(Author::new("nurse")?),
        now_ms,
        quality: TimeQuality::Good,
    })
}

/// The time in a UUID of version 7, milliseconds since 1970.
fn uuid_ms(id: &str) -> i64 {
    i64::from_str_radix(&id.replace('-', "").chars().take(12).collect::<String>(), 16).unwrap_or(0)
}

/// Moves a record to another month and year: the generator begins each clinic on one and the same day, and a dictionary
/// must not learn that day. Days after the 28th become the 28th.
pub fn moved(mut record: Generated, months: i64) -> Generated {
    let id = |text: &str| {
        let ms = uuid_ms(text) + months * 30 * 86_400_000;
        let rest = text.get(13..).unwrap_or_default();
        format!("{:08x}-{:04x}{rest}", ms >> 16, ms & 0xffff)
    };
    record.id = id(&record.id);
    for (name, value) in &mut record.body {
        let Some(text) = value.as_str() else { continue };
        let parts: Vec<i64> = text.split('-').filter_map(|part| part.parse().ok()).collect();
        if name == "patient" {
            *value = id(text).into();
        } else if let (10, [year, month, day]) = (text.len(), parts.as_slice()) {
            let months = year * 12 + month - 1 + months;
            *value = format!("{:04}-{:02}-{:02}", months / 12, months % 12 + 1, day.min(&28)).into();
        }
    }
    record
}

/// Captures `count` edits of one field each, some seconds apart.
///
/// # Errors
/// What the capture refuses.
pub fn edits(clinic: &mut Clinic, make: &mut Generator, records: &[Generated], count: usize) -> anyhow::Result<()> {
    for (nth, record) in records.iter().cycle().take(count).enumerate() {
        let mut record = record.clone();
        let (field, value) = make.edit(&record.body, record.record_type);
        record.body.insert(field.to_owned(), value);
        clinic.now_ms += 4_000 + (nth as i64 * 7_919) % 9_000;
        clinic.put(&record)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_protocol::frame::{Effort, Packer, split};
    use sync_protocol::hub;
    use sync_protocol::loopback::{Traffic, exchange};
    use sync_protocol::message::{Request, body};
    use sync_protocol::payload::Payload;

    /// What 64 kbit/s carry in the time of one exchange ([`sync_protocol::session::EXCHANGE_SECONDS`]).
    const LINK_BYTES: u64 = 40_000;

    fn link() -> Link {
        let (up, down) = (Packer::new(Effort::Link).unwrap(), Packer::new(Effort::Quick).unwrap());
        Link { up, down, up_bytes: 256 * 1024, down_bytes: LINK_BYTES }
    }

    fn step(clinic: &mut Clinic) -> Traffic {
        exchange(&mut clinic.gateway, &mut clinic.hub, &mut link(), clinic.now_ms as u64).unwrap()
    }

    /// A clinic among others that has synced `records` coded records before, and the generator of the next.
    fn settled(seed: u64, records: usize) -> (Clinic, Generator) {
        let mut make = Generator::new(seed);
        let mut clinic = Clinic::new(make.facility()).unwrap();
        for _ in 0..records {
            clinic.save(&moved(make.reference_coded(), 41)).unwrap();
        }
        clinic.now_ms += 60_000;
        clinic.sync().unwrap();
        (clinic, make)
    }

    /// Prints the line of a table, and fails if the bytes are more than what is held today. `must` is the design's target.
    fn hold(what: &str, bytes: usize, must: usize, held: usize) {
        let verdict = if bytes <= must { "met".to_owned() } else { format!("MISSED by {}", bytes - must) };
        println!("| {what:<52} | {bytes:>7} | {must:>7} | {verdict:<14} | {held:>7} |");
        assert!(bytes <= held, "{what}: {bytes} bytes, held to {held}");
    }

    /// Mean bytes of the request's body over some clinics, when `write` has captured something.
    fn mean_up(write: impl Fn(&mut Clinic, &mut Generator)) -> usize {
        let mut sum = 0;
        for seed in 1..=8 {
            let (mut clinic, mut make) = settled(seed, 40);
            write(&mut clinic, &mut make);
            let traffic = step(&mut clinic);
            assert!(traffic.agrees && !traffic.again, "{traffic:?}");
            sum += traffic.up_bytes;
        }
        sum / 8
    }

    #[test]
    fn small_exchanges() {
        let (mut clinic, mut make) = settled(3, 40);
        let idle = step(&mut clinic);
        hold("idle exchange, both ways", idle.up_bytes + idle.down_bytes, 110, 76);
        clinic.save(&moved(make.reference_coded(), 41)).unwrap();
        let one = step(&mut clinic);
        println!("  of which one: {} B, and {} B of response", one.up_bytes, one.down_bytes);
        hold("1 coded record up, mean", coded(1, false), 140, 141);
        hold("100 coded records up, mean", coded(100, false), 3_600, 3_100);
        hold("1,000 coded records up in a burst, mean", coded(1_000, true), 34_000, 28_000);
    }

    fn coded(count: usize, burst: bool) -> usize {
        mean_up(|clinic, make| {
            for nth in 0..count {
                let record = moved(make.reference_coded(), 41);
                match burst {
                    // An import: old ids, hundreds a millisecond.
                    true => {
                        clinic.now_ms += i64::from(nth % 200 == 0);
                        clinic.put(&record).unwrap();
                    }
                    false => clinic.save(&record).unwrap(),
                }
            }
        })
    }

    #[test]
    fn one_field_edits() {
        let mixed = mean_up(|clinic, make| {
            let records = written(clinic, make.clinic_day(50));
            edits(clinic, make, records.get(..100).unwrap(), 100).unwrap();
        });
        // A fifth of these rewrite a note of some hundred letters, which the target's reference records do not have.
        hold("100 one-field edits of a mixed day up, mean", mixed, 2_200, 2_650);
        let coded = mean_up(|clinic, make| {
            let records = (0..100).map(|_| make.reference_coded()).collect();
            let records = written(clinic, records);
            edits(clinic, make, &records, 100).unwrap();
        });
        hold("100 one-field edits of coded records up, mean", coded, 2_200, 1_660);
        let alike = mean_up(|clinic, make| {
            let visits = (0..100).map(|_| make.reference_visit()).collect();
            for mut record in written(clinic, visits) {
                record.body.insert("status".to_owned(), "reviewed".into());
                clinic.now_ms += 4_000 + uuid_ms(&record.id) % 9_000;
                clinic.put(&record).unwrap();
            }
        });
        hold("100 edits of the status of visits up, mean", alike, 2_200, 1_560);
    }

    /// Saves the records and syncs.
    fn written(clinic: &mut Clinic, records: Vec<Generated>) -> Vec<Generated> {
        let records: Vec<Generated> = records.into_iter().map(|record| moved(record, 41)).collect();
        for record in &records {
            clinic.save(record).unwrap();
        }
        clinic.sync().unwrap();
        records
    }

    #[test]
    fn a_thousand_visits() {
        let (mut clinic, mut make) = settled(5, 0);
        let mut json = 0;
        for _ in 0..1_000 {
            let record = moved(make.reference_visit(), 41);
            json += record.json().len();
            clinic.save(&record).unwrap();
        }
        let traffic = settle(&mut clinic.gateway, &mut clinic.hub, &mut link(), clinic.now_ms as u64, 50).unwrap();
        hold("1,000 visits up, per mille of their JSON", traffic.up_bytes * 1_000 / json, 220, 195);
    }

    #[test]
    fn a_hundred_differences_are_found_and_mended() {
        let (mut clinic, mut make) = settled(6, 0);
        let home = Scope::new(make.facility()).unwrap();
        let mut keys = Vec::new();
        for _ in 0..20_000 {
            let record = make.reference_coded();
            clinic.now_ms = uuid_ms(&record.id);
            let wish = wish(&record, clinic.now_ms).unwrap();
            keys.push(wish.key.clone());
            hub::write(&mut clinic.hub, wish, &home).unwrap();
        }
        clinic.sync().unwrap();
        for key in keys.iter().step_by(200) {
            clinic.gateway.forget(key).unwrap();
        }
        let (first, second, idle) = (step(&mut clinic), step(&mut clinic), step(&mut clinic));
        assert!(!first.agrees && second.agrees && second.rows == 100 && !second.again);
        let records = second.down_bytes - idle.down_bytes;
        println!("  the 100 records mended: {records} B; 20,000 records held, 2 round trips");
        let found = first.up_bytes + first.down_bytes + second.up_bytes + idle.down_bytes;
        hold("100 differences found, without the records", found, 4_096, 4_096);
    }

    #[test]
    fn an_interruption_costs_one_frame() {
        let (mut clinic, mut make) = settled(7, 1);
        for _ in 0..400 {
            clinic.save(&moved(make.reference_visit(), 41)).unwrap();
        }
        let mut link = link();
        let now_ms = clinic.now_ms as u64;
        let clock = gateway::WallClock { now_ms, ahead_seconds: Some(0) };
        let outgoing = gateway::request(&mut clinic.gateway, &mut link.up, clock, 1 << 20, 1 << 20).unwrap();
        let largest = outgoing.frames.iter().map(Vec::len).max().unwrap();
        hold("largest frame of 400 visits", largest, 4_096, 4_096);

        // The link breaks in the middle of the sixth frame, and no answer comes.
        let head = Request::decode(&outgoing.head.encode()).unwrap();
        let hub::Opened::Ready(mut with) = hub::open(&mut clinic.hub, head, now_ms).unwrap() else { panic!("refused") };
        let sent = body(&[], outgoing.frames.iter().take(6).cloned());
        let mut left = sent.get(1..sent.len() - 7).unwrap();
        let mut arrived = 0;
        while let Some((frame, taken)) = split(left).unwrap() {
            let Payload::Ops(ops) = Payload::decode(&link.down.unpack(frame).unwrap()).unwrap() else { panic!("rows") };
            arrived += ops.len();
            hub::receive(&mut clinic.hub, &mut with, &ops).unwrap();
            left = left.get(taken..).unwrap();
        }
        let mut state = clinic.gateway.state().unwrap();
        state.unsure = true;
        clinic.gateway.set_state(&state).unwrap();
        let asked = exchange(&mut clinic.gateway, &mut clinic.hub, &mut link, now_ms).unwrap();
        let rest = settle(&mut clinic.gateway, &mut clinic.hub, &mut link, now_ms, 9).unwrap();
        assert_eq!((asked.ops, rest.ops), (0, 400 - arrived), "only what had not arrived in whole frames went again");
        let whole: usize = outgoing.frames.iter().take(5).map(Vec::len).sum();
        hold("lost to a cut in a frame", sent.len() - 1 - whole, 4_096, 4_096);
    }
}
