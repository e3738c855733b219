#!/usr/bin/env bash
# An upgrade of a gateway with 100,000 records that nobody has yet, and the power fails at each step of it:
# cross/upgrade.sh [arm64|armhf|amd64] [RECORDS]
# All of a Debian with the package of cross/lower.sh lies in a file, which is copied, all of it as it is at one moment, again and again
# while the package of cross/package.sh is installed over it and starts. Each copy is then a box that starts again: it must hold every
# record, before the upgrade is finished and after. Which layout its database has is said of each; of those that were cut while it
# started, some have to have an older one, and some the newest. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/chroot.sh
arch=${1:-arm64}
records=${2:-100000}
CUTS=${OUTPOST_CUTS:-6}
. cross/root.sh
command -v mkfs.xfs >/dev/null || fail "mkfs.xfs is needed. Run: apt-get install xfsprogs"
go_apart "$records"
play outpost run /etc/outpost/outpost.toml

put_in() {
  mount -o loop "$1" "$root"
  mount -t proc proc "$root/proc"
  mount -t devpts devpts "$root/dev/pts"
}

take_out() { umount "$root/dev/pts" "$root/proc" "$root"; }

# A box that starts now must hold what the one before held: no more, no less, and all of it still to be sent.
holds_all() {
  serve
  expect test "$(unsent)" = "$records"
  as_user records list form | cmp - "$shelf/records" || fail "the records are not the same"
  cut_off
}

install_new() { "${apt[@]}" install /tmp/new.deb >/dev/null; }

# Opens the database, which brings it up to date.
start() { serve && cut_off; }

# Which layout the database of this box has. It is a copy that is looked at.
layout() {
  rm -rf "$shelf/look"
  mkdir "$shelf/look"
  cp "$root$data"/outpost.db "$root$data"/outpost.db-wal "$shelf/look"
  python3 -c 'import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version").fetchone())' "$shelf/look/outpost.db"
}

# How many milliseconds a step takes.
time_of() {
  local began
  began=$(date +%s%N)
  "$@" >/dev/null
  echo $((($(date +%s%N) - began) / 1000000))
}

# Copies the card at moments of a step, as many as there are, that takes so long.
cut_during() {
  local step=$1 took=$2 pause nth at
  printf -v pause %d.%03d $((took / (CUTS + 1) / 1000)) $((took / (CUTS + 1) % 1000))
  "$step" >/dev/null &
  at=$!
  for nth in $(seq "$CUTS"); do
    sleep "$pause"
    cp --reflink=always "$shelf/card" "$shelf/cut-$step-$nth"
  done
  wait "$at"
}

make_base
shelf=$PWD/target/cross/shelf
rm -rf "$shelf" "$shelf.img" "$root"
mkdir -p "$shelf" "$root"
truncate --size 12G "$shelf.img"
mkfs.xfs -q "$shelf.img"
mount -o loop "$shelf.img" "$shelf"
truncate --size 2G "$shelf/card"
mkfs.ext4 -q "$shelf/card"
mount -o loop "$shelf/card" "$root"
unpack_root
sync
umount "$root"
put_in "$shelf/card"

older=$(bring lower lower)
newer=$(bring packages new)
step "install $older, and $records records"
"${apt[@]}" install /tmp/lower.deb >/dev/null
make_data
awk -v n="$records" 'BEGIN { for (i = 1; i <= n; i++) printf "{\"id\":\"r%d\",\"n\":%d,\"note\":\"as it was said\"}\n", i, i }' \
  >"$root/opt/records"
serve
as_user import form /opt/records
as_user records list form >"$shelf/records"
expect test "$(wc -l <"$shelf/records")" = "$records"
cut_off
rm "$root/opt/records"
old=$(layout)
take_out

# Once without a cut, to know how long it takes.
cp --reflink=always "$shelf/card" "$shelf/whole"
put_in "$shelf/whole"
step "upgrade to $newer"
installing=$(time_of install_new)
starting=$(time_of start)
echo "installed in $installing ms, and started in $starting ms"
holds_all
new=$(layout)
expect test "$old" -lt "$new"
take_out
rm "$shelf/whole"

step "the same, with copies at $CUTS moments while it is installed, and at as many while it starts"
put_in "$shelf/card"
cut_during install_new "$installing"
cut_during start "$starting"
take_out
started=()
for cut in "$shelf"/cut-*; do
  put_in "$cut"
  found=$(layout)
  [[ "$cut" != */cut-start-* ]] || started+=("$found")
  step "${cut##*/}: layout $found, $("${in_root[@]}" dpkg-query -Wf '${Version} ${Status}' outpost), and what runs is $("${in_root[@]}" outpost --version)"
  holds_all
  # As a technician does who is told that the upgrade was interrupted.
  "${in_root[@]}" dpkg --configure -a >/dev/null
  install_new
  expect test "$("${in_root[@]}" dpkg-query -Wf '${Version} ${Status}' outpost)" = "$newer install ok installed"
  holds_all
  take_out
  rm "$cut"
done
umount "$shelf"
rm -rf "$shelf" "$shelf.img" "$root"
# At least one has to be from before the end of the upgrade, and one from after it.
early=0
for found in "${started[@]}"; do [ "$found" -eq "$new" ] || early=$((early + 1)); done
[ "$early" -gt 0 ] && [ "$early" -lt "$CUTS" ] ||
  fail "Of $CUTS cuts while it started, $early were before the end of the upgrade: take more of them (OUTPOST_CUTS)."
printf '\n%s: %s records, upgraded from %s to %s with %s power cuts, %s of them while its database was; none was lost\n' "$arch" "$records" "$older" "$newer" \
  $((2 * CUTS)) "$early"
