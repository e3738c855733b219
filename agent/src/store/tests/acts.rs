//! What was done here: kept within bounds, told once, and told again to a hub that may have lost it.

use serde_json::json;

use super::*;
use crate::acts::{Act, Acts, Deed, Who};
use crate::store::{ACTS_MAX, begin_anew};

fn act(n: u64) -> Act {
    Act::by_the_box(Deed::RevokeApp, &Who::page(), json!({ "n": n })).unwrap()
}

impl Clinic {
    fn does(&self, acts: Vec<Act>) {
        self.store.blocking_write(move |tx| acts.iter().try_for_each(|act| tx.act(act))).unwrap();
    }

    fn acts(&self) -> Acts {
        self.store.blocking_read(|reader| reader.acts()).unwrap()
    }

    fn untold(&self) -> Vec<u64> {
        let (acts, _) = self.store.blocking_read(|reader| reader.untold_acts(1_000)).unwrap();
        acts.acts.iter().map(|kept| kept.number).collect()
    }
}

#[test]
fn a_hub_that_hears_nothing_for_years_costs_no_more_and_is_told_how_much_went() {
    let clinic = Clinic::new();
    clinic.does((0..10).map(act).collect());
    clinic.store.blocking_write(|tx| tx.acts_told(7, 0)).unwrap();
    assert_eq!(clinic.untold(), [8, 9, 10]);
    clinic.does((0..ACTS_MAX).map(act).collect());
    let kept = clinic.acts();
    assert_eq!((kept.acts.len() as u64, kept.dropped), (ACTS_MAX, 3), "what was told is not missed");
    assert_eq!((kept.acts[0].number, kept.acts.last().unwrap().number), (11, ACTS_MAX + 10));
    clinic.does(vec![act(0)]);
    assert_eq!((clinic.acts().acts.len() as u64, clinic.acts().dropped), (ACTS_MAX, 4));
}

#[test]
fn an_act_is_kept_once_and_goes_with_the_change_that_it_tells_of() {
    let clinic = Clinic::new();
    let one = act(1);
    clinic.does(vec![one.clone(), one.clone(), act(2)]);
    clinic.does(vec![one]);
    let failed = clinic.store.blocking_write(|tx| {
        tx.act(&act(3))?;
        Err::<(), _>(Error::Closed)
    });
    assert!(failed.is_err());
    assert_eq!(clinic.untold(), [1, 2]);
}

#[test]
fn a_hub_of_another_epoch_is_told_again() {
    let mut hub = MemoryHub::default();
    let clinic = Clinic::enrolled(&mut hub, "mw");
    clinic.does((0..3).map(act).collect());
    let epoch = clinic.store.blocking_read(|reader| reader.state()).unwrap().epoch.0;
    clinic.store.blocking_write(move |tx| tx.acts_told(3, epoch)).unwrap();
    assert!(clinic.untold().is_empty() && clinic.acts().acts.iter().all(|kept| kept.is_told));
    clinic
        .store
        .blocking_write(|tx| {
            let mut state = tx.state()?;
            state.epoch.0 += 1;
            tx.set_state(&state)
        })
        .unwrap();
    assert_eq!(clinic.untold(), [1, 2, 3]);
    assert!(clinic.acts().acts.iter().all(|kept| !kept.is_told));
}

#[test]
fn what_the_hub_has_not_heard_survives_its_database() {
    let clinic = Clinic::new();
    clinic.does((0..3).map(act).collect());
    clinic.store.blocking_write(|tx| tx.count_dropped_acts(5)).unwrap();
    let before = clinic.acts();
    let (home, Clinic { dir: _dir, store, .. }) = (clinic.store.home(), clinic);
    drop(store);
    begin_anew(&home).unwrap();
    let store = Store::open(home, Options::default()).unwrap();
    let after = store.blocking_read(|reader| reader.acts()).unwrap();
    assert_eq!(after.dropped, 5);
    assert_eq!(after.acts[..3], before.acts[..]);
    let last = &after.acts[3].act;
    assert_eq!((last.what.as_str(), last.who.as_str(), &last.on["acts_kept"]), ("set-aside", "gateway", &json!(true)));
    assert_eq!(after.acts.len(), 4);
}
