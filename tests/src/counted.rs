//! What a hub has lost or doubled of the writes that were acknowledged, counted at the end of a scenario.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::process::Hub;

/// Writes that a hub does not have, and such that it has more often than they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Records that are not there or are not as they were written last, and writes that are in no history.
    pub lost: u64,
    /// Writes in the history of a record beyond those that were made.
    pub doubled: u64,
}

impl Counted {
    /// Looks for records of a type, each with its body and how often it was written. Others may be there as well.
    ///
    /// # Panics
    /// If the hub cannot be read.
    pub fn at<'a>(
        hub: &Hub,
        record_type: &str,
        acknowledged: impl IntoIterator<Item = (&'a str, (Value, u64))>,
    ) -> Counted {
        let exported = hub.export(record_type);
        let records = exported.lines().map(|line| serde_json::from_str(line).expect("an exported record"));
        let records = records.map(|record: Value| (record["id"].clone(), record["body"].clone()));
        let found: Vec<(Value, Value)> = records.collect();
        let bodies: BTreeMap<&str, &Value> = found.iter().filter_map(|(id, body)| Some((id.as_str()?, body))).collect();
        let written = writes(hub, record_type);
        let mut counted = Counted { lost: 0, doubled: (found.len() - bodies.len()) as u64 };
        for (id, (body, times)) in acknowledged {
            let there = written.get(id).copied().unwrap_or_default();
            counted.lost += times.saturating_sub(there).max(u64::from(bodies.get(id) != Some(&&body)));
            counted.doubled += there.saturating_sub(times);
        }
        counted
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Counted) -> Counted {
        Counted { lost: self.lost + other.lost, doubled: self.doubled + other.doubled }
    }

    /// Tells the reliability table.
    ///
    /// # Panics
    /// If there is anything.
    pub fn tell(self, often: &str) {
        println!("{}", json!({"often": often, "lost": self.lost, "doubled": self.doubled}));
        assert_eq!(self, Counted::default(), "{often}");
    }
}

/// How many writes of each record of a type are in the history of a hub.
fn writes(hub: &Hub, record_type: &str) -> BTreeMap<String, u64> {
    let db = Connection::open(format!("{}/hub.db", hub.data_dir())).expect("its database");
    let sql = "SELECT id, count(*) FROM history WHERE type = ?1 GROUP BY id";
    let mut select = db.prepare(sql).expect("its history");
    let rows = select.query_map([record_type], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())));
    rows.and_then(Iterator::collect).expect("its history")
}
