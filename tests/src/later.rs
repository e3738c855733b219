//! Years that pass in a moment: for the hub, whose clock is that of its machine. (A gateway pretends a boot: `Gateway::boot`.)

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/later.c");

/// What puts the wall clock of a program ahead. The program is the one that people get.
#[derive(Debug, Clone)]
pub struct Later(PathBuf);

impl Later {
    /// Builds it in a folder.
    ///
    /// # Panics
    /// If there is no C compiler; SQLite takes one as well.
    pub fn build(folder: &Path) -> Later {
        let place = folder.join("later.so");
        let built = Command::new("cc").args(["-shared", "-fPIC", SOURCE, "-ldl", "-o"]).arg(&place).output();
        let built = built.expect("cc is needed. Run: apt-get install gcc libc6-dev");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Later(place)
    }

    /// The environment of a program whose clock is ahead by this.
    pub fn by(&self, ahead: Duration) -> Vec<(&'static str, String)> {
        let place = self.0.to_string_lossy().into_owned();
        vec![("LD_PRELOAD", place), ("OUTPOST_TEST_AHEAD_SECONDS", ahead.as_secs().to_string())]
    }
}
