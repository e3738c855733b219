//! A pull beside the writer: whatever others commit meanwhile, what goes down is of one moment, and nothing is missed after.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::json;
use sync_protocol::frame::{Effort, Packer};
use sync_protocol::hub::{Conversation, Grant, Opened, Snapshot as _, grant, open, pull, receive};
use sync_protocol::identity::DeviceKey;
use sync_protocol::message::{Request, body};
use sync_protocol::payload::Payload;
use tempfile::TempDir;

use super::Clinic;
use crate::audit::{Actor, What};
use crate::error::StoreError;
use crate::hub::{add_gateway, new_gateway, open_database};
use crate::secret::normal_code;
use crate::store::{Database, Tx};

const NOW_MS: i64 = 1_790_000_000_000;
const CODE: &str = "ABCD-EFGH-JKMN";

/// One hub with two connections, as when it is served.
struct Two {
    writer: Database,
    reader: Database,
    packer: Packer,
    _dir: TempDir,
}

impl Two {
    fn open() -> Two {
        let dir = tempfile::tempdir().unwrap();
        let writer = open_database(dir.path()).unwrap();
        let reader = Database::open_to_read(&dir.path().join("hub.db")).unwrap();
        Two { writer, reader, packer: Packer::new(Effort::Quick).unwrap(), _dir: dir }
    }

    fn clinic(&mut self, name: &str) -> Clinic {
        let enrol = |tx: &mut Tx<'_>| {
            add_gateway(tx, &new_gateway(name, &["mw"], "clinic")?, CODE, 1)?;
            tx.redeem(&normal_code(CODE), "{}", "", DeviceKey([name.as_bytes()[0]; 32]))
        };
        let gateway = self.writer.write(NOW_MS, enrol).unwrap().gateway;
        Clinic::new(&json!({
            "device": gateway.device.0, "origin": gateway.origin.0, "epoch": 1, "source": gateway.source.0,
            "key": crate::secret::hex(&gateway.key.0), "scopes": ["mw"],
            "rules": "version = 0\n", "hub_ms": NOW_MS,
        }))
    }

    /// The writing part of an exchange.
    fn say(&mut self, clinic: &mut Clinic) -> (Request, Grant) {
        let outgoing = clinic.request();
        let packer = &mut self.packer;
        let ops = outgoing.frames.iter().map(|frame| {
            let (frame, _) = sync_protocol::frame::split(frame).unwrap().unwrap();
            match Payload::decode(&packer.unpack(frame).unwrap()).unwrap() {
                Payload::Ops(ops) => ops,
                Payload::Rows(_) => panic!("rows from a gateway"),
            }
        });
        let ops: Vec<_> = ops.collect();
        let act = |tx: &mut Tx<'_>| {
            let Opened::Ready(mut with) = open(tx, outgoing.head.clone(), 0)? else { panic!("refused") };
            ops.iter().try_for_each(|ops| receive(tx, &mut with, ops).map(drop))?;
            let Conversation { request, .. } = &*with;
            Ok::<_, StoreError>((request.clone(), grant(tx, &with, 0)?))
        };
        self.writer.write(NOW_MS, act).unwrap()
    }

    /// The reading part; `meanwhile` happens after its snapshot was taken.
    fn hear(
        &mut self,
        clinic: &mut Clinic,
        (request, granted): (Request, Grant),
        meanwhile: impl FnOnce(&mut Database),
    ) {
        let Two { writer, reader, packer, .. } = self;
        let look = |tx: &mut Tx<'_>| {
            let head = tx.head()?;
            meanwhile(writer);
            let answer = pull(tx, packer, &request, granted)?;
            assert_eq!(answer.head.cursor, head);
            Ok::<_, StoreError>(answer)
        };
        let answer = reader.read(NOW_MS, look).unwrap();
        clinic.integrate(&request, &body(&answer.head.encode(), answer.frames));
        assert!(clinic.agrees, "the digest is of the same moment as the rows");
    }
}

#[test]
fn what_is_committed_before_or_after_the_snapshot_of_a_pull_does_not_tear_it() {
    let mut two = Two::open();
    let (mut a, mut b) = (two.clinic("a"), two.clinic("b"));
    a.put("patient/p1", json!({ "name": "Asha", "visits": 1 }));
    b.put("patient/p2", json!({ "name": "Bwalo" }));
    let said = two.say(&mut b);
    // Between the grant and the snapshot: it comes down at once.
    let of_a = two.say(&mut a);
    two.hear(&mut a, of_a, |_| {});
    a.put("patient/p2", json!({ "name": "Bwalo Phiri" }));
    let of_a = two.say(&mut a);
    // Within the snapshot: it comes with the next exchange.
    two.hear(&mut b, said, |writer| {
        let key = sync_protocol::id::RecordKey::parse("patient/p3").unwrap();
        let mut who = crate::desk::Who::at_the_keyboard(None).unwrap();
        who.home = sync_protocol::id::Scope::new("mw").unwrap();
        writer
            .write(NOW_MS, |tx| crate::desk::put(tx, key, super::object(json!({ "name": "Chikondi" })), &who))
            .unwrap();
    });
    assert_eq!(b.body("patient/p1")["visits"], 1);
    assert_eq!(b.body("patient/p2")["name"], "Bwalo Phiri");
    assert_eq!(b.body("patient/p3"), json!(null));
    two.hear(&mut a, of_a, |_| {});
    let said = two.say(&mut b);
    two.hear(&mut b, said, |_| {});
    assert_eq!(b.body("patient/p3")["name"], "Chikondi");
}

#[test]
fn a_reader_cannot_write() {
    let mut two = Two::open();
    let written = two.reader.read(NOW_MS, |tx| tx.add_gateway(&new_gateway("a", &["mw"], "clinic")?));
    assert!(written.is_err());
}

#[tokio::test]
async fn people_who_look_through_records_leave_readers_to_gateways() {
    let world = super::World::start().await;
    let (open, gate) = mpsc::channel::<()>();
    let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let looks: Vec<_> = (0..6)
        .map(|_| {
            let (hub, gate, begun) = (world.hub.clone(), Arc::clone(&gate), Arc::clone(&begun));
            let look = move |_: &mut Tx<'_>| {
                begun.fetch_add(1, Ordering::AcqRel);
                assert!(gate.lock().unwrap().recv().is_err(), "it opens when nobody holds it any more");
                Ok::<_, StoreError>(((), json!({})))
            };
            tokio::spawn(async move { hub.show(Actor::hub(), What::ListRecords, look).await })
        })
        .collect();
    while begun.load(Ordering::Acquire) < 2 {
        tokio::task::yield_now().await;
    }
    let read = world.hub.read::<_, StoreError, _>(|tx| tx.audit_head());
    tokio::time::timeout(Duration::from_secs(60), read).await.unwrap().unwrap();
    assert_eq!(begun.load(Ordering::Acquire), 2, "the others wait");
    drop(open);
    for look in looks {
        look.await.unwrap().unwrap();
    }
}
