//! The log of the database stays small, also when somebody reads for long.

use std::sync::mpsc;

use serde_json::json;

use super::*;

/// What the log is cut to (`journal_size_limit`).
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn log_bytes(clinic: &Clinic) -> u64 {
    std::fs::metadata(clinic.store.path().with_extension("db-wal")).map_or(0, |file| file.len())
}

/// Saves so many records, a hundred a commit.
fn save(clinic: &Clinic, from: usize, count: usize) {
    for first in (from..from + count).step_by(100) {
        let capture_all = move |tx: &mut crate::store::Tx<'_>| -> Result<(), Refusal<Error>> {
            for n in first..first + 100 {
                // So that bodies do not compress to nothing.
                let note: String = (0..40).map(|i| format!("{:x}", (n * 7_919 + i * 104_729) % 1_000_003)).collect();
                let body = Intent::Put(object(json!({"n": n, "note": note})));
                gateway::capture(tx, wish(&format!("visit/v{n}"), body, None, NOW_MS))?;
            }
            Ok(())
        };
        clinic.store.blocking_write(capture_all).unwrap();
    }
}

#[test]
fn a_log_that_grew_under_a_long_reader_is_cut_when_it_has_gone() {
    let clinic = Clinic::new();
    save(&clinic, 0, 4_000);
    assert!(log_bytes(&clinic) <= LOG_BYTES_MAX, "with nobody reading: {}", log_bytes(&clinic));
    let beside = Store::open_read_only(clinic.path()).unwrap();
    let (began, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            beside.read(|reader| {
                let seen: u64 = reader.types()?.iter().map(|(_, count)| count).sum();
                began.send(()).unwrap();
                let _ = may_end.recv();
                let still: u64 = reader.types()?.iter().map(|(_, count)| count).sum();
                Ok::<_, Error>((seen, still))
            })
        });
        has_begun.recv().unwrap();
        save(&clinic, 4_000, 6_000);
        assert!(log_bytes(&clinic) > LOG_BYTES_MAX, "the reader has its snapshot: {}", log_bytes(&clinic));
        drop(end);
        assert_eq!(reading.join().unwrap().unwrap(), (4_000, 4_000));
    });
    // The first of these folds the log, the second begins it anew.
    save(&clinic, 10_000, 200);
    assert!(log_bytes(&clinic) <= LOG_BYTES_MAX, "{}", log_bytes(&clinic));
    assert_eq!(clinic.sql::<i64>("SELECT count(*) FROM records"), 10_200);
}
