//! The table: figures, their baselines, and whether the targets of `docs/benchmarks.md` are met.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::machine;

/// What is held against the target.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Figure,
    Ratio,
    /// Figure minus baseline.
    Surplus,
}

/// A target: a bound that must hold, and perhaps one that we aim at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    of: Of,
    is_floor: bool,
    must: f64,
    aim: Option<f64>,
}

impl Goal {
    pub(crate) fn figure_at_least(must: f64, aim: Option<f64>) -> Goal {
        Goal { of: Of::Figure, is_floor: true, must, aim }
    }

    pub(crate) fn figure_at_most(must: f64, aim: Option<f64>) -> Goal {
        Goal { of: Of::Figure, is_floor: false, must, aim }
    }

    pub(crate) fn ratio_at_least(must: f64, aim: Option<f64>) -> Goal {
        Goal { of: Of::Ratio, is_floor: true, must, aim }
    }

    pub(crate) fn ratio_at_most(must: f64, aim: Option<f64>) -> Goal {
        Goal { of: Of::Ratio, is_floor: false, must, aim }
    }

    pub(crate) fn surplus_at_most(must: f64) -> Goal {
        Goal { of: Of::Surplus, is_floor: false, must, aim: None }
    }

    fn text(&self, bound: f64) -> String {
        let sign = if self.is_floor { ">=" } else { "<=" };
        let suffix = if self.of == Of::Ratio { " x" } else { "" };
        let prefix = if self.of == Of::Surplus { "baseline + " } else { "" };
        format!("{sign} {prefix}{}{suffix}", short(bound))
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    what: String,
    unit: &'static str,
    figure: f64,
    baseline: Option<f64>,
    goal: Option<Goal>,
}

impl Line {
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, figure: f64) -> Line {
        Line { what: what.into(), unit, figure, baseline: None, goal: None }
    }

    pub(crate) fn against(self, baseline: f64) -> Line {
        Line { baseline: Some(baseline), ..self }
    }

    pub(crate) fn goal(self, goal: Goal) -> Line {
        Line { goal: Some(goal), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.baseline.filter(|b| *b > 0.0).map(|b| self.figure / b)
    }

    fn judged(&self) -> Option<f64> {
        match self.goal?.of {
            Of::Figure => Some(self.figure),
            Of::Ratio => self.ratio(),
            Of::Surplus => self.baseline.map(|b| self.figure - b),
        }
    }

    fn met(&self) -> &'static str {
        let (Some(goal), Some(value)) = (self.goal, self.judged()) else { return "" };
        let holds = |bound: f64| if goal.is_floor { value >= bound } else { value <= bound };
        match (holds(goal.must), goal.aim.is_some_and(holds)) {
            (true, true) => "aim",
            (true, false) => "yes",
            (false, _) => "NO",
        }
    }

    fn columns(&self) -> [String; 7] {
        let baseline = self.baseline.map(short).unwrap_or_default();
        let ratio = self.ratio().map(|r| format!("{r:.2}")).unwrap_or_default();
        let must = self.goal.map(|g| g.text(g.must)).unwrap_or_default();
        let aim = self.goal.and_then(|g| g.aim.map(|aim| g.text(aim))).unwrap_or_default();
        [
            self.what.clone(),
            format!("{} {}", short(self.figure), self.unit),
            baseline,
            ratio,
            must,
            aim,
            self.met().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "figure": self.figure, "baseline": self.baseline, "ratio": self.ratio(),
            "must": self.goal.map(|g| g.text(g.must)), "aim": self.goal.and_then(|g| g.aim.map(|aim| g.text(aim))),
            "met": self.goal.map(|_| self.met()),
        })
    }
}

/// What stands in a table: a line as it is shown and as it is kept, or what could not be measured and why.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Line { columns: [String; 7], kept: Value },
    Missing(String),
}

/// All lines, and what could not be measured.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: Vec<Entry>,
    /// Where each entry is noted at once, for whoever goes on if this program breaks off.
    notes: Option<File>,
}

impl Table {
    /// One whose entries are noted in this file.
    pub(crate) fn noted_in(path: &Path) -> Result<Table> {
        let notes = File::create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Table { entries: Vec::new(), notes: Some(notes) })
    }

    /// Takes over what another one noted in this file.
    pub(crate) fn take_over(&mut self, path: &Path) -> Result<()> {
        let noted = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        for entry in noted.lines() {
            self.entries.push(serde_json::from_str(entry)?);
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, line: Line) {
        eprintln!("  {}", line.columns().join(" | "));
        self.add(Entry::Line { columns: line.columns(), kept: line.json() });
    }

    /// Says that something was not measured, and why.
    pub(crate) fn note_missing(&mut self, why: &str) {
        eprintln!("  not measured: {why}");
        self.add(Entry::Missing(why.to_owned()));
    }

    fn add(&mut self, entry: Entry) {
        if let Some(notes) = &mut self.notes {
            writeln!(notes, "{}", json!(entry)).expect("room for a line of the table");
        }
        self.entries.push(entry);
    }

    fn lines(&self) -> impl Iterator<Item = (&[String; 7], &Value)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Line { columns, kept } => Some((columns, kept)),
            Entry::Missing(_) => None,
        })
    }

    fn missing(&self) -> impl Iterator<Item = &String> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Missing(why) => Some(why),
            Entry::Line { .. } => None,
        })
    }

    /// As a Markdown table.
    pub(crate) fn text(&self) -> String {
        let head = ["what", "figure", "baseline", "ratio", "must", "aim", "met"].map(str::to_owned);
        let rows: Vec<&[String; 7]> = std::iter::once(&head).chain(self.lines().map(|(columns, _)| columns)).collect();
        let mut widths = [0; 7];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row.iter()) {
                *width = cell.len().max(*width);
            }
        }
        let mut text = String::new();
        for (at, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(widths) {
                let _ = write!(text, "| {cell:width$} ");
            }
            text.push_str("|\n");
            if at == 0 {
                text.push_str(&widths.map(|width| format!("|{}", "-".repeat(width + 2))).concat());
                text.push_str("|\n");
            }
        }
        for why in self.missing() {
            let _ = writeln!(text, "\nNot measured: {why}");
        }
        text
    }

    pub(crate) fn write_json(&self, path: &Path, is_long: bool) -> Result<()> {
        let lines: Vec<&Value> = self.lines().map(|(_, kept)| kept).collect();
        let missing: Vec<&String> = self.missing().collect();
        let report = json!({"machine": machine::describe(), "long": is_long, "lines": lines, "not_measured": missing});
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Three digits that count, no more.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
