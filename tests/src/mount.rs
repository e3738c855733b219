//! A card that takes no writes: programs get mounts of their own, in which a folder is one.

use std::process::Command;

/// The command that gives a program mounts of its own.
fn own_mounts() -> &'static str {
    match Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|output| output.status.success()) {
        true => "unshare --mount",
        false => "unshare --user --map-root-user --mount",
    }
}

/// Whether this machine lets a program have mounts of its own.
pub fn may_mount() -> bool {
    let try_it = format!("{} sh -c 'mount --bind /tmp /tmp'", own_mounts());
    Command::new("sh").args(["-c", &try_it]).output().is_ok_and(|output| output.status.success())
}

/// A line of shell that ends in a program for which a folder takes no writes.
pub(crate) fn read_only(folder: &str) -> String {
    let read_only = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;
    format!(r#"exec {} sh -c '{read_only}' '{folder}' "$0" "$@""#, own_mounts())
}
