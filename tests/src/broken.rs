//! Deliberately broken builds: a small mistake that a careless developer could make, in a copy of this workspace.
//!
//! A test that cannot fail proves nothing. So `tests/broken` breaks the product on purpose, once for each file of
//! `tests/broken.d`, and has the simulator play until the break is caught. The seed that caught it is then played without the
//! break, and must pass: a schedule that fails in any case proves nothing either.
//!
//! A break is a text that stands in a file exactly once, and another text instead. In the other text `BROKEN` is the
//! question whether this break is made, so that one build has them all. A test of the suite holds that each still applies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Name of its file.
    pub name: String,
    /// In one sentence.
    pub what: String,
    /// Kinds of accident in which it shows, as `tests/simulate --faults` takes them.
    pub faults: String,
    /// Where the stores are in which it shows, as `tests/simulate --on` takes it.
    pub on: String,
    /// Whether what costs nothing but bytes counts as caught.
    pub is_strict: bool,
    edits: Vec<Edit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    file: String,
    from: String,
    to: String,
}

/// All breaks of a workspace, by name.
///
/// # Errors
/// If one cannot be read.
pub fn all(root: &Path) -> Result<Vec<Break>> {
    let mut breaks = Vec::new();
    for entry in fs::read_dir(root.join("tests/broken.d"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        breaks.push(parse(&name, &text).with_context(|| format!("reading {}", path.display()))?);
    }
    breaks.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(breaks)
}

/// The sentence, then lines `faults: LIST`, `on: disk`, `strict`, and for each edit `in: FILE`, `from:` and `to:` with the text below them.
fn parse(name: &str, text: &str) -> Result<Break> {
    let (what, rest) = text.split_once("\n\n").context("a sentence and an empty line")?;
    let (what, mut found) = (what.replace('\n', " "), Break { name: name.to_owned(), ..Break::none() });
    found.what = what;
    let (head, edits) = rest.split_once("in: ").context("in: FILE")?;
    for line in head.lines() {
        match line.split_once(": ") {
            Some(("faults", faults)) => found.faults = faults.to_owned(),
            Some(("on", on)) => found.on = on.to_owned(),
            _ => found.is_strict |= line == "strict",
        }
    }
    for part in edits.split("\nin: ") {
        let (file, texts) = part.split_once("\nfrom:\n").context("from:")?;
        let (from, to) = texts.split_once("\nto:\n").context("to:")?;
        let to = to.trim_end_matches('\n');
        found.edits.push(Edit { file: file.trim().to_owned(), from: from.to_owned(), to: to.to_owned() });
    }
    Ok(found)
}

impl Break {
    fn none() -> Break {
        let (name, what) = (String::new(), String::new());
        let (faults, on) = ("usual".to_owned(), "memory".to_owned());
        Break { name, what, faults, on, is_strict: false, edits: Vec::new() }
    }
}

/// The variable that names the break to be made.
pub const VARIABLE: &str = "OUTPOST_BREAK";

/// What every broken file asks; it goes to the end of `sync-protocol/src/lib.rs`.
const QUESTION: &str = r#"
/// Whether this mistake is made.
pub fn is_broken(name: &str) -> bool {
    static MADE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    MADE.get_or_init(|| std::env::var("OUTPOST_BREAK").unwrap_or_default()) == name
}
"#;

/// The files that breaks change, as they are with all of them.
///
/// # Errors
/// If a text that is replaced is not in its file exactly once: the file has changed, and the break must follow.
pub fn applied(breaks: &[Break], root: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let lib = PathBuf::from("sync-protocol/src/lib.rs");
    let asked = fs::read_to_string(root.join(&lib))? + QUESTION;
    files.insert(lib, asked);
    for (one, edit) in breaks.iter().flat_map(|one| one.edits.iter().map(move |edit| (one, edit))) {
        let place = PathBuf::from(&edit.file);
        let text = match files.remove(&place) {
            Some(text) => text,
            None => fs::read_to_string(root.join(&place)).with_context(|| edit.file.clone())?,
        };
        let times = text.matches(&edit.from).count();
        ensure!(times == 1, "{}: its text stands {times} times in {}:\n{}", one.name, edit.file, edit.from);
        let from = if place.starts_with("sync-protocol") { "crate" } else { "sync_protocol" };
        let question = format!("{from}::is_broken(\"{}\")", one.name);
        files.insert(place, text.replacen(&edit.from, &edit.to.replace("BROKEN", &question), 1));
    }
    Ok(files)
}

/// Makes `copy` the workspace at `root` with these breaks. Files that are like that already keep their times, so that only
/// what differs is built anew.
///
/// # Errors
/// What the disk reports, and as [`applied`].
pub fn copy(breaks: &[Break], root: &Path, copy: &Path) -> Result<()> {
    let broken = applied(breaks, root)?;
    let mut kept = BTreeSet::new();
    for part in
        ["Cargo.toml", "Cargo.lock", "agent", "cross", "docs", "server-stub", "sqlite", "sync-protocol", "tests"]
    {
        for file in files(&root.join(part))? {
            let name = file.strip_prefix(root)?;
            let place = copy.join(name);
            match broken.get(name) {
                Some(text) => write(&place, text.as_bytes())?,
                None => write(&place, &fs::read(&file)?)?,
            }
            kept.insert(place);
        }
    }
    for file in files(copy)?.iter().filter(|file| !kept.contains(*file)) {
        fs::remove_file(file)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    fs::create_dir_all(path.parent().context("a folder")?)?;
    Ok(fs::write(path, bytes)?)
}

fn files(from: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut left) = (Vec::new(), vec![from.to_owned()]);
    while let Some(path) = left.pop() {
        match path.is_dir() {
            true => left.extend(fs::read_dir(&path)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?),
            false if path.is_file() => found.push(path),
            false => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Faults, On};

    #[test]
    fn every_break_still_applies() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let breaks = all(root).unwrap();
        assert!(breaks.len() >= 10, "{}", breaks.len());
        assert!(applied(&breaks, root).unwrap().len() > 5);
        for one in breaks {
            assert!(!one.edits.is_empty() && one.what.ends_with('.'), "{}", one.name);
            assert!(one.edits.iter().any(|edit| edit.to.contains("BROKEN")), "{} is always made", one.name);
            assert!(one.edits.iter().all(|edit| !edit.file.starts_with("tests/")), "{} breaks no product", one.name);
            one.faults.parse::<Faults>().unwrap();
            one.on.parse::<On>().unwrap();
        }
    }

    #[test]
    fn a_break_whose_text_is_gone_is_told_by_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let rotten =
            parse("rotten", "It is gone.\n\nfaults: usual\nin: Cargo.toml\nfrom:\nno such text\nto:\nBROKEN\n");
        let told = applied(&[rotten.unwrap()], root).unwrap_err().to_string();
        assert!(told.contains("rotten: its text stands 0 times in Cargo.toml"), "{told}");
    }
}
