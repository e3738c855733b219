//! Dips of the power supply, which are over in a second or two. The driver looks every other second and tells whoever waits when it
//! finds the supply too weak, or good again; of a dip between two looks of ours nothing would stay behind.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;

use super::{WAS_WEAK, alarm, root};

/// Remembers dips for as long as this program runs, on a thread that sleeps meanwhile. There is none on a board that tells of none.
pub(crate) fn watch_supply() {
    let Some(alarm) = alarm(&root()) else { return };
    let watch = move || {
        let ended = File::open(alarm).and_then(|file| {
            let read = || file.read_at(&mut [0; 64], 0).map(drop);
            each_change(&file, read, || {
                if !WAS_WEAK.swap(true, Ordering::Relaxed) {
                    tracing::warn!("the power supply was too weak; `outpost doctor` says what to do");
                }
            })
        });
        tracing::debug!(ended = ?ended.err(), "dips of the power supply are not heard of any more");
    };
    // Without it they are found when somebody happens to look.
    if let Err(error) = std::thread::Builder::new().name("supply".to_owned()).spawn(watch) {
        tracing::debug!(%error, "dips of the power supply are not heard of");
    }
}

/// Calls back each time the kernel says that one of its files has changed: `POLLPRI`, as the documentation of sysfs has it. Ends when
/// the file can be read no more.
fn each_change(file: impl AsFd, read: impl Fn() -> io::Result<()>, mut then: impl FnMut()) -> io::Result<()> {
    // Only who has read what it says is told of the next change; who has not is told of one at once.
    read()?;
    loop {
        retry_on_intr(|| poll(&mut [PollFd::new(&file, PollFlags::PRI)], None))?;
        read()?;
        then();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::net::{TcpListener, TcpStream};

    use rustix::net::{RecvFlags, SendFlags, recv, send};

    use super::*;

    #[test]
    fn each_change_is_heard_of_until_the_file_is_gone() {
        // Urgent bytes of a connection come with the same event as changes of such a file.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let changed = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (file, _) = listener.accept().unwrap();
        let change = || {
            send(&changed, b"!", SendFlags::OOB).unwrap();
        };
        let (heard, is_read) = (Cell::new(0), Cell::new(false));
        let read = || {
            if !is_read.replace(true) {
                // It has not changed yet.
                change();
                return Ok(());
            }
            match heard.get() {
                3 => Err(io::ErrorKind::NotFound.into()),
                _ => Ok(recv(&file, &mut [0], RecvFlags::OOB).map(drop)?),
            }
        };
        let ended = each_change(&file, read, || {
            heard.set(heard.get() + 1);
            change();
        });
        assert_eq!(heard.get(), 3);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
