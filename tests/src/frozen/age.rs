//! Taking a database back to an older layout: for measuring upgrades of any size.
//!
//! The steps of both programs only add tables, columns and indexes, so what a layout does not have yet is dropped. What the rows
//! of the other columns hold is as the program of today wrote it; how it was then, the frozen databases show.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

use super::rows::{layout, open_as_it_is};

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `outpost`.
    Gateway,
    /// `outpost-hub`.
    Hub,
}

/// The tables with their columns, and the indexes, without any.
pub type Shape = BTreeMap<String, Vec<String>>;

impl Program {
    /// The files of its steps, the first one first.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn steps(self) -> Result<Vec<PathBuf>> {
        let folder = match self {
            Program::Gateway => "../agent/src/store/migrations",
            Program::Hub => "../server-stub/src/store",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
        let mut steps: Vec<PathBuf> = files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "sql")).collect();
        // By the number in the name: the tenth comes after the second.
        steps.sort_by_key(|step| {
            let name = step.file_stem().unwrap_or_default().to_string_lossy();
            name.chars().filter(char::is_ascii_digit).collect::<String>().parse::<u32>().unwrap_or(u32::MAX)
        });
        ensure!(!steps.is_empty(), "no steps in {}", folder.display());
        Ok(steps)
    }

    /// What a layout looks like.
    ///
    /// # Errors
    /// If there is no such layout.
    pub fn shape_of(self, layout: u32) -> Result<Shape> {
        let db = Connection::open_in_memory()?;
        let (steps, count) = (self.steps()?, usize::try_from(layout)?);
        for step in steps.get(..count).with_context(|| format!("{self:?} has no layout {layout}"))? {
            db.execute_batch(&fs::read_to_string(step)?)?;
        }
        shape(&db)
    }
}

/// What a database looks like: the columns with their types and defaults.
///
/// # Errors
/// What SQLite reports.
pub fn shape(db: &Connection) -> Result<Shape> {
    let mut read = db.prepare("SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")?;
    let names: Vec<String> = read.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut columns =
        db.prepare("SELECT name || ' ' || type || ' ' || \"notnull\" || ' ' || coalesce(dflt_value, '') || ' ' || pk FROM pragma_table_info(?1)")?;
    let of = |name: String| {
        let columns = columns.query_map([&name], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok((name, columns))
    };
    names.into_iter().map(of).collect()
}

/// Takes a plain database that nobody has open back to a layout. The changes are in its log, as a program leaves them that was killed.
///
/// # Errors
/// If what is left does not look like that layout.
pub fn age(database: &Path, program: Program, to: u32) -> Result<()> {
    let db = open_as_it_is(database, None)?;
    let (wanted, is) = (program.shape_of(to)?, shape(&db)?);
    ensure!(layout(&db)? >= to, "{} is older than layout {to}", database.display());
    let mut work = vec!["BEGIN".to_owned()];
    for (name, columns) in &is {
        match wanted.get(name) {
            // Of an index, or of a table.
            None if columns.is_empty() => work.push(format!("DROP INDEX IF EXISTS {name}")),
            None => work.push(format!("DROP TABLE {name}")),
            Some(kept) => {
                let kept: BTreeSet<&String> = kept.iter().collect();
                let dropped = columns.iter().filter(|column| !kept.contains(column));
                let name_of = |column: &String| column.split(' ').next().unwrap_or_default().to_owned();
                work.extend(dropped.map(|column| format!("ALTER TABLE {name} DROP COLUMN {}", name_of(column))));
            }
        }
    }
    work.extend([format!("PRAGMA user_version = {to}"), "COMMIT".to_owned()]);
    db.execute_batch(&work.join(";\n"))?;
    ensure!(shape(&db)? == wanted, "{} does not look like layout {to} now", database.display());
    Ok(())
}
