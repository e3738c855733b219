//! What the programs have in memory: idle, and at most while they do what takes most, with few records and with many.
//!
//! Each thing is done by a gateway that was started for it, so that none stands in another's way, and what Linux says was the most
//! that was ever resident is taken. That has the pages of the program's file in it, which the system takes back when it
//! needs room; what is the program's own has a line beside it where it is idle.

use std::path::Path;

use anyhow::{Result, ensure};
use rusqlite::Connection;
use serde_json::Value;

use super::client::save_all;
use super::fill::fill;
use super::sample::{Kind, samples};
use super::table::{Goal, Line, Table};
use super::{Setting, machine};
use crate::process::{Gateway, Hub, wait_for};

/// Records that come while the memory under load is taken.
const LOAD: usize = 6_400;
const CLIENTS: usize = 32;
/// Records in one page of a list.
const PAGE: usize = 500;
const PAGES: usize = 20;
const SYNCS_MAX: usize = 60;
/// Records that are lost here, so that both sides compare what they have.
const LOST: usize = 20;

pub(super) fn run(setting: &Setting, table: &mut Table) -> Result<()> {
    let sizes: &[usize] = if setting.is_long { &[0, 10_000, 100_000, 1_000_000] } else { &[0, 10_000, 100_000] };
    for size in sizes {
        of_size(setting, table, *size)?;
    }
    Ok(())
}

/// All that a gateway with so many records does, one after the other.
fn of_size(setting: &Setting, table: &mut Table, size: usize) -> Result<()> {
    let (dir, hub_dir) = (setting.fresh("gateway")?, setting.fresh("hub")?);
    fill(&dir, size, 5_000)?;
    let hub = Hub::start(&hub_dir);
    let mut gateway = Gateway::start(&dir);
    gateway.status();
    let idle = machine::memory(gateway.id())?;
    let line = Line::new(format!("resident, {size} records: idle"), "MB", idle.resident_mb);
    table.push(line.goal(Goal::figure_at_most(10.0, Some(7.0))));
    table.push(Line::new(format!("resident, {size} records: idle, its own"), "MB", idle.own_mb));
    if size == 0 {
        table.push(Line::new("hub resident, idle and empty", "MB", machine::memory(hub.id())?.resident_mb));
        return Ok(());
    }
    let mut peak = |what: &str, gateway: &mut Gateway, work: &dyn Fn(&Gateway) -> Result<()>| -> Result<()> {
        gateway.restart();
        work(gateway)?;
        let line =
            Line::new(format!("resident at most, {size} records: {what}"), "MB", machine::peak_mb(gateway.id())?);
        table.push(line.goal(Goal::figure_at_most(20.0, Some(12.0))));
        Ok(())
    };
    peak("capture, 32 clients", &mut gateway, &|gateway| {
        let address = gateway.url().replace("http://", "");
        save_all(&address, CLIENTS, &samples(Kind::Visit, LOAD, 5_000_000 + size as u64)).map(drop)
    })?;
    peak("lists", &mut gateway, &list)?;
    peak("enrolment", &mut gateway, &|gateway| {
        gateway.enroll(&hub, "a", "mw");
        Ok(())
    })?;
    peak("sync up", &mut gateway, &sync)?;
    peak("exchange without news", &mut gateway, &sync)?;
    gateway.kill();
    lose(&dir)?;
    peak("comparing", &mut gateway, &|gateway| {
        sync(gateway)?;
        // Found, named, and sent again.
        wait_for("the lost records", || (held(gateway) == size + LOAD).then_some(()));
        Ok(())
    })?;
    gateway.kill();
    let mut other = Gateway::start(&setting.fresh("other")?);
    other.enroll(&hub, "b", "mw");
    peak("sync down", &mut other, &sync)?;
    table.push(Line::new(format!("hub resident at most, {size} records"), "MB", machine::peak_mb(hub.id())?));
    Ok(())
}

/// Syncs until nothing is unsent, however long that takes: who asks waits two minutes for an answer.
fn sync(gateway: &Gateway) -> Result<()> {
    for _ in 0..SYNCS_MAX {
        let (status, _) = gateway.ask("POST", "/v1/sync", &[], None);
        if status == 200 && gateway.count("unsent") == 0 {
            return Ok(());
        }
    }
    anyhow::bail!("the sync does not come to an end")
}

/// Records that it holds.
fn held(gateway: &Gateway) -> usize {
    let status = gateway.status();
    let types = status.get("records").and_then(Value::as_array).into_iter().flatten();
    types.filter_map(|of| of.get("count").and_then(Value::as_u64)).sum::<u64>() as usize
}

/// Some pages of a list, one after the other.
fn list(gateway: &Gateway) -> Result<()> {
    let mut path = format!("/v1/records/visit?limit={PAGE}");
    for _ in 0..PAGES {
        let (status, answer) = gateway.ask("GET", &path, &[], None);
        ensure!(status == 200, "{status} {answer}");
        let answer: Value = serde_json::from_str(&answer)?;
        let Some(next) = answer.get("next").and_then(Value::as_str) else { break };
        path = format!("/v1/records/visit?limit={PAGE}&after={next}");
    }
    Ok(())
}

/// Takes records out of a database that nobody has open, as if they had never come, so that the digests differ.
fn lose(dir: &Path) -> Result<()> {
    let db = Connection::open(dir.join("outpost.db"))?;
    let mut lost = db.prepare("SELECT feed, scope, item FROM records WHERE is_confirmed = 1 ORDER BY feed LIMIT ?1")?;
    let rows = lost.query_map([LOST as i64], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(i64, i64, i64)> = rows.collect::<Result<_, _>>()?;
    ensure!(rows.len() == LOST, "{} of {LOST}", rows.len());
    for (feed, scope, item) in rows {
        let sum: i64 = db.query_row("SELECT sum FROM scopes WHERE n = ?1", [scope], |row| row.get(0))?;
        let sum = sum.wrapping_sub(item);
        db.execute("UPDATE scopes SET sum = ?2, records = records - 1 WHERE n = ?1", [scope, sum])?;
        db.execute("DELETE FROM records WHERE feed = ?1", [feed])?;
    }
    Ok(())
}
