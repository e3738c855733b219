//! `docs/schema.sql` says what the database is, with every column explained.

use std::collections::BTreeMap;
use std::fs;

use rusqlite::Connection;

use super::Clinic;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/schema.sql");

fn objects(db: &Connection) -> BTreeMap<String, String> {
    let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| row.map(|(name, sql)| (name, bare(&sql))).unwrap()).collect()
}

/// Without comments, and with single spaces.
fn bare(sql: &str) -> String {
    let lines: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    // A column that a migration added follows on a line of its own.
    lines.join(" ").split_whitespace().collect::<Vec<_>>().join(" ").replace(" ,", ",").replace(" )", ")")
}

#[test]
fn the_documented_schema_is_the_real_one() {
    let documented = Connection::open_in_memory().unwrap();
    documented.execute_batch(&fs::read_to_string(DOCS).unwrap()).unwrap();
    let clinic = Clinic::new();
    let real = super::raw(clinic.store.path());
    assert_eq!(objects(&documented), objects(&real));
}

#[test]
fn every_table_and_column_is_explained() {
    let text = fs::read_to_string(DOCS).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let starts_object = line.starts_with("CREATE ");
        let is_column = line.starts_with("  ") && !line.trim_start().starts_with("--");
        let is_constraint = line.trim_start().starts_with("PRIMARY KEY") || line.trim_start().starts_with("UNIQUE");
        if starts_object {
            assert!(at > 0 && lines[at - 1].starts_with("--"), "line {}: {line}", at + 1);
        }
        if is_column && !is_constraint {
            let is_explained = line.contains("-- ") || lines[at - 1].trim_start().starts_with("--");
            assert!(is_explained, "line {}: {line}", at + 1);
        }
    }
}
