#!/usr/bin/env bash
# The power of a Pi fails, and with it goes what its system had not written yet: cross/power.sh [aarch64|armv7|armv6]
# The gateway's program runs under emulation on an ext4 of its own, in a file. In the middle of its work that file is copied, all of it
# as it is at one moment, and the box goes on from the copy. Needs root. OUTPOST_CUTS says how often, and is 40 if it is not said.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/emulated.sh
name=${1:-aarch64}
[ "$(id -u)" = 0 ] || fail "Only root can do this. Run: sudo cross/power.sh $name"
command -v mkfs.xfs >/dev/null || fail "mkfs.xfs is needed. Run: apt-get install xfsprogs"
command -v mkfs.ext4 >/dev/null || fail "mkfs.ext4 is needed. Run: apt-get install e2fsprogs"
can_run "$name"
# What is mounted and started here is seen by nobody else, and ends with this.
if [ -z "${OUTPOST_APART:-}" ]; then
  exec env OUTPOST_APART=1 unshare --mount --pid --fork --kill-child "$0" "$name"
fi
mount -t proc proc /proc
build_players
lay_out "$name"
# XFS copies a file by noting that both have the same blocks, and lets nobody write to it meanwhile.
shelf=$folder/shelf
mkdir "$shelf"
truncate --size 2G "$shelf.img"
mkfs.xfs -q "$shelf.img"
mount -o loop "$shelf.img" "$shelf"
OUTPOST_SHELF=$shelf play power:: --ignored --nocapture
umount "$shelf"
rm -rf "$folder"
