//! What fuzzing begins with: the golden vectors of the protocol, and the kept inputs of each target in `tests/corpus`.

use std::fs;
use std::path::{Path, PathBuf};

use sync_protocol::message::body;

use super::{CANARY, TARGETS, card, documents, letters, login};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Golden vectors whose names begin so.
fn golden(names: &[&str]) -> Vec<Vec<u8>> {
    let folder = root().join("../sync-protocol/tests/golden");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).expect("the vectors").flatten().map(|e| e.path()).collect();
    found.sort();
    let is_one = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        names.iter().any(|begin| name.starts_with(begin))
    };
    let bytes = |path: &PathBuf| hex(&fs::read_to_string(path).expect("a vector"));
    found.iter().filter(|path| is_one(path)).map(bytes).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(|c| char::from(c).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Heads with payloads behind them, as `talk` reads them.
fn talks(heads: &[&str], payloads: &[&str]) -> Vec<Vec<u8>> {
    let parts: Vec<Vec<u8>> =
        golden(payloads).into_iter().map(|p| [&(p.len() as u16).to_le_bytes()[..], &p].concat()).collect();
    golden(heads).iter().map(|head| body(head, parts.clone())).collect()
}

/// The inputs that a target begins with.
///
/// # Panics
/// If the repository is not whole.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    assert!(TARGETS.iter().any(|known| known.name == target), "no target {target}");
    let mut seeds = match target {
        "frame" => golden(&["frame-", "body"]),
        "payload" => golden(&["ops-", "rows-"]),
        "request" => golden(&["request-"]),
        "response" => golden(&["response-"]),
        "op" => golden(&["op-plain", "op-odd"]),
        "record" => golden(&["record-"]),
        "symbols" => golden(&["symbols"]),
        "rules" => {
            [documents::RULES, include_str!("../../../docs/rules-fhir.toml")].map(|t| t.as_bytes().to_vec()).into()
        }
        "hub" => talks(&["request-"], &["ops-", "rows-"]),
        "gateway" => talks(&["response-"], &["rows-"]),
        "ticket" => letters::seeds(),
        "login" => login::seeds(),
        "card" => card::seeds(golden(&["op-plain", "op-odd", "record-"])),
        _ => Vec::new(),
    };
    let folder = root().join("corpus").join(target);
    let mut kept: Vec<PathBuf> =
        fs::read_dir(folder).map(|all| all.flatten().map(|e| e.path()).collect()).unwrap_or_default();
    kept.sort();
    seeds.extend(kept.iter().map(|path| fs::read(path).expect("a kept input")));
    assert!(!seeds.is_empty(), "{target} has nothing to begin with, {CANARY} or other");
    seeds
}
