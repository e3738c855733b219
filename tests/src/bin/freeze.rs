//! Freezes the databases of the programs of today, for the tests of upgrades: `tests/freeze`.
//!
//! Layouts that nobody has frozen, because several steps were made together, are made from those of today: what they do not have
//! yet is dropped.

use std::path::Path;

use anyhow::{Result, bail};
use outpost_tests::frozen::age::{Program, age};
use outpost_tests::frozen::rows::{layout, open_as_it_is};
use outpost_tests::frozen::{Frozen, GATEWAYS, all, story};

fn main() -> Result<()> {
    if std::env::args().len() > 1 {
        bail!("there are no options");
    }
    let before = all()?;
    let today = keep(false, &before)?;
    keep(true, &before)?;
    let known = all()?;
    let plain = || known.iter().filter(|frozen| !frozen.is_sealed);
    for hub in (1..today.hub).filter(|layout| plain().all(|frozen| frozen.hub != *layout)) {
        aged(&today, &Frozen { hub, ..today.clone() })?;
    }
    for gateway in (1..today.gateway).filter(|layout| plain().all(|frozen| frozen.gateway != *layout)) {
        aged(&today, &Frozen { gateway, ..today.clone() })?;
    }
    Ok(())
}

/// Keeps the fleet of today, if there is none of its layouts. The layout of the hub says nothing about an encrypted gateway.
fn keep(is_sealed: bool, known: &[Frozen]) -> Result<Frozen> {
    let folder = tempfile::tempdir()?;
    let told = story::play(folder.path(), is_sealed)?;
    let layout_of = |place: &str| layout(&open_as_it_is(&folder.path().join(place), None)?);
    let today = Frozen { gateway: layout_of("far/outpost.db")?, hub: layout_of("hub/hub.db")?, is_sealed };
    let is_like_it = |other: &&Frozen| match is_sealed {
        true => other.is_sealed && other.gateway == today.gateway,
        false => **other == today,
    };
    match known.iter().find(is_like_it) {
        Some(known) => println!("{} is there, and stays as it is", known.folder().display()),
        None => {
            today.keep(folder.path(), &told)?;
            println!("{}", today.folder().display());
        }
    }
    Ok(today)
}

/// Keeps the fleet of today as it would be in older layouts.
fn aged(today: &Frozen, to: &Frozen) -> Result<()> {
    let fleet = today.thaw()?;
    age(&fleet.database("hub"), Program::Hub, to.hub)?;
    for name in GATEWAYS {
        age(&fleet.database(name), Program::Gateway, to.gateway)?;
    }
    to.keep(fleet.dir("hub").parent().unwrap_or(Path::new("")), &fleet.told)?;
    println!("{}", to.folder().display());
    Ok(())
}
