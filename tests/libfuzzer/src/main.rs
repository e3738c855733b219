//! libFuzzer on one of the targets of `outpost_tests::fuzz`: `FUZZ_TARGET` names it, and `FUZZ_INPUTS` the folder into which
//! the inputs to begin with are written.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use outpost_tests::fuzz::{TARGETS, seeds};

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

fn prepare() {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let folder = PathBuf::from(std::env::var("FUZZ_INPUTS").expect("FUZZ_INPUTS names a folder"));
    for (at, seed) in seeds(&name).iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{at}")), seed).expect("a folder to write to");
    }
    RUN.get_or_init(|| target.run);
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    if let Some(run) = RUN.get() {
        run(data);
    }
});
