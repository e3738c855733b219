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
    let folder = tempfile::tempdir()?;
    let told = story::play(folder.path())?;
    let layout_of = |place: &str| layout(&open_as_it_is(&folder.path().join(place))?);
    let today = Frozen { gateway: layout_of("near/outpost.db")?, hub: layout_of("hub/hub.db")? };
    today.keep(folder.path(), &told)?;
    println!("{}", today.folder().display());
    let known = all()?;
    for hub in (1..today.hub).filter(|layout| known.iter().all(|frozen| frozen.hub != *layout)) {
        aged(&today, &Frozen { hub, ..today.clone() })?;
    }
    for gateway in (1..today.gateway).filter(|layout| known.iter().all(|frozen| frozen.gateway != *layout)) {
        aged(&today, &Frozen { gateway, ..today.clone() })?;
    }
    Ok(())
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
