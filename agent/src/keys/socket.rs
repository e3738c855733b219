//! A socket in the data folder: who may open it may do with the gateway what its owner may.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// The socket, gone when it is not needed any more.
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes it. Without it the gateway serves all the same, and `command` does not work.
    pub(super) fn bind(path: PathBuf, command: &str) -> Option<Socket> {
        // The folder is locked by us: what is there was left behind.
        let _ = fs::remove_file(&path);
        let private = |listener| fs::set_permissions(&path, Permissions::from_mode(0o600)).map(|()| listener);
        match UnixListener::bind(&path).and_then(private) {
            Ok(listener) => Some(Socket { listener, path }),
            Err(error) => {
                tracing::warn!(%error, "{command} will not work: {} cannot be made", Path::display(&path));
                None
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
