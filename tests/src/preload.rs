//! Libraries that stand between a program and the system: loaded before the C library, into the programs that people get.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Variables of the environment that one of them is loaded with.
pub type Variables = Vec<(&'static str, String)>;

/// Builds a library from its source beside this file.
///
/// # Panics
/// If there is no C compiler; SQLite takes one as well.
fn build(source: &str, folder: &Path) -> PathBuf {
    let place = folder.join(source).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(source);
    let built = Command::new("cc").args(["-shared", "-fPIC"]).arg(source).args(["-ldl", "-o"]).arg(&place).output();
    let built = built.expect("cc is needed. Run: apt-get install gcc libc6-dev");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    place
}

fn text(place: &Path) -> String {
    place.to_string_lossy().into_owned()
}

/// Another year: for the hub, whose clock is that of its machine. (A gateway pretends a boot: `Gateway::boot`.)
#[derive(Debug, Clone)]
pub struct Later(PathBuf);

impl Later {
    /// Builds it in a folder.
    ///
    /// # Panics
    /// If there is no C compiler.
    pub fn build(folder: &Path) -> Later {
        Later(build("later.c", folder))
    }

    /// The environment of a program whose clock is ahead by this.
    pub fn by(&self, ahead: Duration) -> Variables {
        self.ahead(ahead.as_secs().to_string())
    }

    /// The environment of a program whose clock begins in 1970.
    ///
    /// # Panics
    /// If the clock of this machine does, too.
    pub fn in_1970(&self) -> Variables {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
        self.ahead(format!("-{}", since.as_secs()))
    }

    fn ahead(&self, seconds: String) -> Variables {
        vec![("LD_PRELOAD", text(&self.0)), ("OUTPOST_TEST_AHEAD_SECONDS", seconds)]
    }
}

/// A card that gives input/output errors for as long as it is told to.
#[derive(Debug, Clone)]
pub struct Failing {
    library: PathBuf,
    folder: PathBuf,
}

impl Failing {
    /// Builds it in a folder.
    ///
    /// # Panics
    /// If there is no C compiler, or the folder cannot be written.
    pub fn build(folder: &Path) -> Failing {
        let fails = folder.join("fails");
        std::fs::create_dir(&fails).expect("a folder for what fails");
        Failing { library: build("failing.c", folder), folder: fails }
    }

    /// The environment of a program that has this card.
    pub fn variables(&self) -> Variables {
        vec![("LD_PRELOAD", text(&self.library)), ("OUTPOST_TEST_FAILS", text(&self.folder))]
    }

    /// From now on `sync` or `read` fails, or does no more.
    ///
    /// # Panics
    /// If the folder cannot be written.
    pub fn set(&self, what: &str, fails: bool) {
        let place = self.folder.join(what);
        let done = if fails { std::fs::write(place, "") } else { std::fs::remove_file(place) };
        done.expect("a mark in the folder of what fails");
    }
}
