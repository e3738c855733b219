//! All that a database holds, row by row.

use std::collections::BTreeMap;
use std::path::Path;

use agent::store::DataKey;
use anyhow::{Result, ensure};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;

/// The rows of one table, in one order.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// Opens a database without changing anything of it by that: its log stays as it is. With a key it is read as every program since
/// the first that encrypted has written it.
///
/// # Errors
/// What SQLite reports.
pub fn open_as_it_is(database: &Path, key: Option<&DataKey>) -> Result<Connection> {
    let db = Connection::open(database)?;
    if let Some(key) = key {
        let raw: String = key.bytes().iter().chain(&key.id().0).map(|byte| format!("{byte:02x}")).collect();
        db.execute_batch(&format!("PRAGMA cipher = 'chacha20'; PRAGMA key = 'raw:{raw}'"))?;
    }
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(db)
}

/// The number of the layout that a database says it has.
///
/// # Errors
/// What SQLite reports.
pub fn layout(db: &Connection) -> Result<u32> {
    Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// How each table and index was made, by name.
///
/// # Errors
/// What SQLite reports.
pub fn schema(db: &Connection) -> Result<BTreeMap<String, String>> {
    let mut read =
        db.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")?;
    let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every table.
///
/// # Errors
/// What SQLite reports.
pub fn tables(db: &Connection) -> Result<BTreeMap<String, Table>> {
    let mut names = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    names.into_iter().map(|name| Ok((name.clone(), table(db, &name)?))).collect()
}

fn table(db: &Connection, name: &str) -> Result<Table> {
    let mut read = db.prepare(&format!("SELECT * FROM {name}"))?;
    let columns: Vec<String> = read.column_names().into_iter().map(str::to_owned).collect();
    let rows = read.query_map([], |row| (0..columns.len()).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>())?;
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    rows.sort_by_cached_key(|row| key(row));
    Ok(Table { columns, rows })
}

/// Something to sort rows by: any order will do, if it is the same for the same rows.
fn key(row: &[Value]) -> Vec<u8> {
    let mut key = Vec::new();
    for value in row {
        match value {
            Value::Null => key.push(0),
            Value::Integer(number) => key.extend(number.to_be_bytes()),
            Value::Real(number) => key.extend(number.to_be_bytes()),
            Value::Text(text) => key.extend(text.as_bytes()),
            Value::Blob(bytes) => key.extend(bytes),
        }
        key.push(0);
    }
    key
}

/// Whether a later state of the tables has every row of the earlier one, with the same in each column that there was. New tables
/// and columns may have come.
///
/// # Errors
/// The first difference.
pub fn are_kept(before: &BTreeMap<String, Table>, after: &BTreeMap<String, Table>) -> Result<()> {
    for (name, was) in before {
        let Some(is) = after.get(name) else { anyhow::bail!("the table {name} is gone") };
        let place = |column: &String| is.columns.iter().position(|other| other == column);
        let places: Option<Vec<usize>> = was.columns.iter().map(place).collect();
        let Some(places) = places else { anyhow::bail!("{name} had the columns {:?}", was.columns) };
        let of_old = |row: &Vec<Value>| places.iter().filter_map(|at| row.get(*at).cloned()).collect();
        let mut rows: Vec<Vec<Value>> = is.rows.iter().map(of_old).collect();
        rows.sort_by_cached_key(|row| key(row));
        ensure!(rows == was.rows, "{name}: {} rows were other than they are, which are {}", was.rows.len(), rows.len());
    }
    Ok(())
}
