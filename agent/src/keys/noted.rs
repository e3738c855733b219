//! What was done to the slots, on its way from the file beside the database into it.
//!
//! A command changes the file while the gateway has the database, so that it notes there what it did, in one write with the
//! change. Whoever has the database fetches that: taken over first and then removed, so that a power cut between the two leaves it
//! in both, and it is known by its name.

use std::collections::BTreeSet;

use super::slots::Slots;
use crate::acts::Act;
use crate::error::Error;
use crate::store::Store;

/// What is noted in the file beside the database of a store; nothing is written if that is nothing.
///
/// # Errors
/// As [`Slots::change`]; what the store reports.
pub(crate) async fn fetch_notes(store: &Store) -> Result<(), Error> {
    let Some((acts, dropped)) = waiting(store)? else { return Ok(()) };
    let kept = acts.clone();
    let write = store.write(move |tx| {
        kept.iter().try_for_each(|act| tx.act(act))?;
        if dropped > 0 { tx.count_dropped_acts(dropped) } else { Ok(()) }
    });
    write.await?;
    forget(store, &acts, dropped)
}

fn waiting(store: &Store) -> Result<Option<(Vec<Act>, u64)>, Error> {
    let slots = Slots::load(store.path())?;
    Ok(slots.map(|slots| (slots.acts, slots.acts_dropped)).filter(|(acts, dropped)| !acts.is_empty() || *dropped > 0))
}

fn forget(store: &Store, acts: &[Act], dropped: u64) -> Result<(), Error> {
    let known: BTreeSet<&str> = acts.iter().map(|act| act.name.as_str()).collect();
    Slots::change(store.path(), |slots| {
        slots.acts.retain(|act| !known.contains(act.name.as_str()));
        slots.acts_dropped = slots.acts_dropped.saturating_sub(dropped);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::acts::{Deed, Who};
    use crate::store::Options;

    #[tokio::test]
    async fn what_was_noted_beside_the_database_comes_into_it_once_also_over_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        fetch_notes(&store).await.unwrap();
        assert!(!Slots::path(store.path()).exists(), "nothing is made for it");
        let note = |n: u32| {
            let note = |slots: &mut Slots| slots.note(Deed::AddKeySlot, &Who::gateway(), json!({ "slot": n }));
            Slots::change(store.path(), note).unwrap();
        };
        note(1);
        note(2);
        let noted = std::fs::read(Slots::path(store.path())).unwrap();
        let slots =
            |acts: Vec<crate::acts::KeptAct>| acts.iter().map(|kept| kept.act.on["slot"].clone()).collect::<Vec<_>>();
        for _ in 0..2 {
            fetch_notes(&store).await.unwrap();
            assert!(Slots::load(store.path()).unwrap().unwrap().acts.is_empty());
            let kept = store.read(|reader| reader.acts()).await.unwrap().acts;
            assert_eq!(slots(kept), [json!(1), json!(2)]);
            // The power failed before they were taken away here.
            std::fs::write(Slots::path(store.path()), &noted).unwrap();
        }
        for n in 3..103 {
            note(n);
        }
        fetch_notes(&store).await.unwrap();
        let kept = store.read(|reader| reader.acts()).await.unwrap();
        assert_eq!(
            (kept.acts.len(), kept.dropped),
            (2 + 64, 38),
            "the two were there, and 36 of the new ones are missed"
        );
    }
}
