//! Leaves the tables for unwinding out of the released program: a tenth of it, and nothing there unwinds.
//!
//! Rust makes them from 1.92 on also where a panic aborts, so that a backtrace can be printed; there are no names for one in a
//! program without symbols. A build that keeps its symbols keeps them, for valgrind and debuggers. Only for glibc: the programs for boards
//! are linked by another linker.

use std::env::var;
use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=no-unwinding.ld");
    println!("cargo:rerun-if-env-changed=CARGO_PROFILE_RELEASE_STRIP");
    let is = |name: &str, value: &str| var(name).is_ok_and(|found| found == value);
    let keeps_symbols = ["none", "false", "debuginfo"].iter().any(|strip| is("CARGO_PROFILE_RELEASE_STRIP", strip));
    let is_gnu = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is("PROFILE", "release") && is_gnu && !keeps_symbols {
        let script = Path::new(&var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("no-unwinding.ld");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
}
