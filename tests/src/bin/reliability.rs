//! Makes the table of `docs/reliability.md` from runs. `tests/reliability` builds and runs it.
//!
//! A row is a fault and a command. The command fails if anything was lost, doubled or different; what it did it tells in lines
//! of JSON with `often` (in words), and `lost` and `doubled` if it has counted them, or as `cargo test` tells it. To add a row, add it to [`ROWS`].
//!
//! A full run takes hours. So each line says when it was run and of which commit, and `--only` runs some and leaves the others as
//! they are. What a row came to at a commit is kept in the build folder, so a run that was stopped goes on where it was.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of the table.
struct Row {
    fault: &'static str,
    how: &'static str,
    /// The command of a full run.
    full: &'static str,
    /// The same with smaller counts.
    quick: &'static str,
}

const fn scenario(fault: &'static str, how: &'static str, command: &'static str) -> Row {
    Row { fault, how, full: command, quick: command }
}

/// All rows, the real programs first.
const ROWS: &[Row] = &[
    Row {
        fault: "programs end at any instant, while records come in and go up",
        how: "`kill -9` of gateway and hub",
        full: "OUTPOST_KILLS=1000 tests/scenario ::c_",
        quick: "tests/scenario ::c_",
    },
    Row {
        fault: "the connection breaks after every byte of a push, a pull and an idle exchange, both ways",
        how: "a proxy between real sockets",
        full: "OUTPOST_EVERY_BYTE=1 tests/scenario every_byte",
        quick: "tests/scenario every_byte",
    },
    scenario("no internet for a day", "real programs, link down", "tests/scenario ::a_outreach"),
    scenario("clinic and centre edit one field or one list", "real programs, link down", "tests/scenario ::b_"),
    scenario(
        "an old card is put back; a card runs in two boxes",
        "real programs, copied folders",
        "tests/scenario ::e_",
    ),
    scenario(
        "boots in 1970 and in 2038 without a contact, over TLS",
        "real programs, clocks that are wrong",
        "tests/scenario ::d_",
    ),
    scenario("an old card is handed in, also a damaged one", "real programs, broken files", "tests/scenario rescue::"),
    scenario("one bad record and its dependants among five thousand", "real programs", "tests/scenario ::f_"),
    scenario("the hub is put back to last week, by command and by hand", "real programs", "tests/scenario ::g_"),
    scenario("the disk fills", "a small file system that is full", "tests/scenario ::l_"),
    scenario("the card refuses writes", "real programs, files that may not grow", "tests/scenario io::"),
    scenario("the card takes no writes any more", "real programs, a read-only mount", "tests/scenario read_only::"),
    scenario("the card damages pages of the database", "real programs, broken files", "tests/scenario broken_page::"),
    Row {
        fault: "loss, torn messages, power cuts, clocks, builds, rules and scopes that change, copied cards and hubs that are put back, all at once",
        how: "simulated fleet, usual faults, stores in memory",
        full: "tests/simulate 1_000_000",
        quick: "tests/simulate --dev 10_000",
    },
    Row {
        fault: "the same, and power cuts in the middle of a sync and disks that fill",
        how: "simulated fleet, usual faults, SQLite on disk",
        full: "tests/simulate 20_000 --on disk",
        quick: "tests/simulate --dev 500 --on disk",
    },
    Row {
        fault: "mistakes of developers",
        how: "broken builds, see below",
        full: "tests/broken",
        quick: "tests/broken skip-content-hash ack-before-commit trust-the-clock forget-the-epoch throw-the-loser-away",
    },
];

const PAGE: &str = "docs/reliability.md";
const BEGIN: &str = "<!-- made by tests/reliability; not by hand -->\n";
const END: &str = "<!-- end -->\n";

const USAGE: &str = "tests/reliability [--quick] [--only PART_OF_COMMANDS]";

/// What a run came to.
#[derive(Default, Serialize, Deserialize)]
struct Outcome {
    often: Vec<String>,
    /// `None` where nothing is counted: then the command fails if it is not nothing.
    lost: Option<u64>,
    doubled: Option<u64>,
    /// Broken builds, if it was about them.
    breaks: Vec<Value>,
}

fn main() -> Result<()> {
    let (mut is_quick, mut only, mut args) = (false, None, std::env::args().skip(1));
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => is_quick = true,
            "--only" => only = Some(args.next().context(USAGE)?),
            _ => bail!(USAGE),
        }
    }
    let built = Built::now()?;
    let command_of = |row: &Row| if is_quick { row.quick } else { row.full };
    let is_asked = |row: &&Row| only.as_ref().is_none_or(|part| command_of(row).contains(part.as_str()));
    let mut rows = ROWS.iter().filter(is_asked).peekable();
    ensure!(rows.peek().is_some(), "no command has {}", only.unwrap_or_default());
    for row in rows {
        let command = command_of(row);
        let (outcome, when) = (built.outcome(command)?, built.when()?);
        // At once: another run may write rows of its own meanwhile, and this one may be stopped.
        let page = std::fs::read_to_string(PAGE).with_context(|| PAGE.to_owned())?;
        std::fs::write(PAGE, with_row(&page, row, command, &outcome, &when)?)?;
    }
    println!("{PAGE} has what they came to");
    Ok(())
}

/// The page with what a row came to. Lines of other rows stay as they are, until those are run again.
fn with_row(page: &str, row: &Row, command: &str, outcome: &Outcome, when: &str) -> Result<String> {
    let (before, rest) = page.split_once(BEGIN).context("the mark before the table")?;
    let (tables, after) = rest.split_once(END).context("the mark behind the table")?;
    let known = |first: &str| tables.lines().find(|line| line.starts_with(&format!("| {first} |")));
    let mut table =
        "| fault | how | how often | lost | doubled | again | run on |\n|---|---|---|---|---|---|---|\n".to_owned();
    for one in ROWS {
        let line = match known(one.fault) {
            _ if one.fault == row.fault => {
                let count = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
                let (lost, doubled, often) = (count(outcome.lost), count(outcome.doubled), outcome.often.join("; "));
                format!("| {} | {} | {often} | {lost} | {doubled} | `{command}` | {when} |", row.fault, row.how)
            }
            Some(line) => line.to_owned(),
            None => format!("| {} | {} | not run yet | | | `{}` | |", one.fault, one.how, one.full),
        };
        table.push_str(&format!("{line}\n"));
    }
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let is_kept = |line: &&str| {
        line.starts_with("| `")
            && !outcome.breaks.iter().any(|one| line.contains(&format!("| `{}` |", text(one, "name"))))
    };
    let mut breaks: Vec<String> = tables.lines().filter(is_kept).map(str::to_owned).collect();
    breaks.extend(outcome.breaks.iter().map(|one| {
        let (name, what, kind, faults) = (text(one, "name"), text(one, "what"), text(one, "kind"), text(one, "faults"));
        format!("| `{name}` | {what} | {kind} | {} | `{faults}` | {when} |", one["seed"])
    }));
    breaks.sort();
    table.push_str(
        "\n| broken build | the mistake | caught as | by seed | faults | run on |\n|---|---|---|---|---|---|\n",
    );
    breaks.iter().for_each(|line| table.push_str(&format!("{line}\n")));
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// What is run.
struct Built {
    commit: String,
    has_changes: bool,
}

impl Built {
    fn now() -> Result<Built> {
        // The page itself may differ: it is what is being made.
        let changes = said("git", &["status", "--porcelain", "--", ".", ":!docs/reliability.md"])?;
        Ok(Built { commit: said("git", &["rev-parse", "--short=10", "HEAD"])?, has_changes: !changes.is_empty() })
    }

    /// When, and of what.
    fn when(&self) -> Result<String> {
        let date = said("date", &["-u", "+%Y-%m-%d"])?;
        let with = if self.has_changes { " with changes that are not committed" } else { "" };
        Ok(format!("{date}, `{}`{with}", self.commit))
    }

    /// What a command comes to, or came to at this commit.
    fn outcome(&self, command: &str) -> Result<Outcome> {
        let kept = self.place_of(command);
        if let (false, Ok(text)) = (self.has_changes, std::fs::read(&kept)) {
            eprintln!("{command}: has run");
            return serde_json::from_slice(&text).with_context(|| kept.display().to_string());
        }
        eprintln!("{command}");
        let outcome = run(command)?;
        if !self.has_changes {
            std::fs::create_dir_all(kept.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(&kept, serde_json::to_vec(&outcome)?)?;
        }
        Ok(outcome)
    }

    fn place_of(&self, command: &str) -> PathBuf {
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let name: String = command.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        Path::new(&target).join("reliability").join(&self.commit).join(format!("{name}.json"))
    }
}

fn said(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {args:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn run(command: &str) -> Result<Outcome> {
    let output = Command::new("sh").args(["-c", command]).output()?;
    let told = String::from_utf8_lossy(&output.stdout);
    let failed = || format!("{command}: {}\n{told}{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}", failed());
    let outcome = read(&told);
    ensure!(!outcome.often.is_empty(), "it does not say what it did: {}", failed());
    Ok(outcome)
}

fn read(told: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in told.lines() {
        // The test harness writes the name of a test before what the test prints.
        let json = line.find("{\"").and_then(|at| line.get(at..)).and_then(|text| serde_json::from_str(text).ok());
        let Some(said) = json.filter(|said: &Value| said["often"].is_string()) else { continue };
        outcome.often.extend(said["often"].as_str().map(str::to_owned));
        let and = |sum: Option<u64>, name: &str| said[name].as_u64().map_or(sum, |n| Some(sum.unwrap_or(0) + n));
        (outcome.lost, outcome.doubled) = (and(outcome.lost, "lost"), and(outcome.doubled, "doubled"));
        outcome.breaks.extend(said["breaks"].as_array().cloned().unwrap_or_default());
    }
    if outcome.often.is_empty() {
        let passed = told.lines().filter_map(|line| line.strip_prefix("test result: ok. ")?.split_once(" passed"));
        let passed: u64 = passed.filter_map(|(count, _)| count.parse::<u64>().ok()).sum();
        // A test that this machine cannot run says so and passes; it is no evidence.
        let skipped = told.lines().filter(|line| line.contains("skipped: ")).count() as u64;
        if passed > skipped {
            outcome.often.push(format!(
                "{} scenario{}",
                passed - skipped,
                if passed - skipped == 1 { "" } else { "s" }
            ));
        } else if skipped > 0 {
            outcome.often.push("not on this machine".to_owned());
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_tells_is_added_up() {
        let told = "test a ... {\"often\": \"3 breaks\", \"lost\": 0, \"doubled\": 1}\nok\n{\"often\": \"5 kills\", \"lost\": 2}\n";
        let outcome = read(told);
        assert_eq!(outcome.often, ["3 breaks", "5 kills"]);
        assert_eq!((outcome.lost, outcome.doubled), (Some(2), Some(1)));
        assert_eq!(read("{\"often\": \"5 builds\"}").lost, None, "nobody counted");
    }

    #[test]
    fn what_a_row_came_to_goes_into_the_page_and_other_lines_stay() {
        let page = format!("# Page\n{BEGIN}\n{END}rest\n");
        let outcome = |often: &str, breaks: &str| Outcome {
            often: vec![often.to_owned()],
            breaks: serde_json::from_str(breaks).unwrap(),
            ..Outcome::default()
        };
        let [first, .., last] = ROWS else { panic!("there are rows") };
        let one = with_row(&page, first, "do", &outcome("5 kills", "[]"), "today").unwrap();
        let broken = r#"[{"name": "b", "what": "w", "kind": "k", "seed": 3, "faults": "usual"}]"#;
        let both = with_row(&one, last, "break", &outcome("1 broken", broken), "later").unwrap();
        assert!(both.contains("5 kills | - | - | `do` | today |"), "{both}");
        assert!(both.contains("| `b` | w | k | 3 | `usual` | later |"), "{both}");
        assert_eq!(both.matches("not run yet").count(), ROWS.len() - 2);
        let again = with_row(&both, last, "break", &outcome("1 broken", broken), "at last").unwrap();
        assert_eq!(again, both.replace("later", "at last"));
        assert!(again.starts_with("# Page\n") && again.ends_with("rest\n"));
    }

    #[test]
    fn tests_that_passed_are_counted_and_those_skipped_are_not() {
        assert_eq!(read("test result: ok. 2 passed; 0 failed\n").often, ["2 scenarios"]);
        assert_eq!(read("skipped: no\ntest result: ok. 1 passed; 0 failed\n").often, ["not on this machine"]);
        assert!(read("running 0 tests\ntest result: ok. 0 passed; 0 failed\n").often.is_empty());
    }
}
