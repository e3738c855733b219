#!/usr/bin/env bash
# The life of the packages in a Debian of their own, emulated where it is for another processor:
# cross/clean-root.sh [arm64|armhf|amd64]
# Each is installed one version lower, worked with, killed, upgraded to what cross/package.sh made, removed and purged, and after
# each step it is looked at what is there. Needs root, and puts nothing outside of target/cross. systemd does not run in it.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
arch=${1:-arm64}
case "$arch" in
arm64) emulator=qemu-aarch64 ;;
armhf) emulator=qemu-arm ;;
amd64) emulator= ;;
*) fail "no such architecture: $arch. There are arm64, armhf and amd64." ;;
esac
[ "$(id -u)" = 0 ] || fail "Only root can do this. Run: sudo cross/clean-root.sh $arch"
compgen -G "target/cross/packages/outpost_*_$arch.deb" >/dev/null || fail "There is no package yet. Run: cross/package.sh $arch"
# What is mounted and started here is seen by nobody else, and ends with this.
if [ -z "${OUTPOST_APART:-}" ]; then
  exec env OUTPOST_APART=1 unshare --mount --pid --fork --kill-child "$0" "$arch"
fi
mount -t proc proc /proc

. cross/root.sh
formats=/proc/sys/fs/binfmt_misc
in_root=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root DEBIAN_FRONTEND=noninteractive)
apt=("${in_root[@]}" apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef)

# The kernel has to know who reads programs of another processor. Where it did not, it forgets at the end.
emulate() {
  local format=/usr/lib/binfmt.d/$emulator.conf
  [ -e "$format" ] || fail "qemu is needed. Run: apt-get install qemu-user-static"
  mount -t binfmt_misc binfmt_misc "$formats"
  if [ ! -e "$formats/$emulator" ]; then
    cat "$format" >"$formats/register"
    trap 'echo -1 >"$formats/$emulator"' EXIT
  fi
}

# The package as it would be if its version were lower.
lower() {
  rm -rf "$root/tmp/lower"
  dpkg-deb -R "$1" "$root/tmp/lower"
  sed -i 's/^Version: .*/Version: 0.0.0-1/' "$root/tmp/lower/DEBIAN/control"
  dpkg-deb --root-owner-group -b "$root/tmp/lower" "$root/tmp/lower.deb" >/dev/null
}

as_user() { "${user[@]}" "$@" --data-dir "$data"; }

serve() {
  coproc DAEMON { exec "${user[@]}" "$serve" --listen 127.0.0.1:0 --config "$settings" --data-dir "$data" 2>>"$root/tmp/log"; }
  IFS= read -r line <&"${DAEMON[0]}" || fail "$program does not start:" "$(cat "$root/tmp/log")"
  echo "$line"
}

cut_off() {
  kill -9 "$DAEMON_PID"
  wait "$DAEMON_PID" 2>/dev/null || true
}

life() {
  program=$1 serve=$2 settings=$3 check=${4:-}
  local package version data=/var/lib/$1
  local user=("${in_root[@]}" setpriv --reuid="$1" --regid="$1" --clear-groups "/usr/bin/$1")
  package=$(ls target/cross/packages/"$program"_*_"$arch".deb)
  version=$(dpkg-deb -f "$package" Version)
  lower "$package"
  cp "$package" "$root/tmp/new.deb"

  step "install a version that is lower"
  "${apt[@]}" install /tmp/lower.deb
  "${in_root[@]}" "$program" --version
  expect test -z "$("${in_root[@]}" dpkg --verify "$program")"
  expect test -L "$root/etc/systemd/system/multi-user.target.wants/$program.service"
  expect "${in_root[@]}" id "$program"
  expect "${in_root[@]}" "$program" config check $check "$settings"
  # With systemd this is StateDirectory=.
  "${in_root[@]}" install -d -o "$program" -g "$program" -m 700 "$data"
  echo '# written by the technician' >>"$root$settings"

  step "work, and kill -9"
  serve
  save first
  cut_off
  serve
  expect test "$(held)" = 1

  step "upgrade to $version"
  "${apt[@]}" install /tmp/new.deb
  expect test "$("${in_root[@]}" dpkg-query -Wf '${Version}' "$program")" = "$version"
  cut_off
  serve
  save second
  expect test "$(held)" = 2
  # What the lower version took and nobody has yet is still to be sent.
  [ "$program" = outpost-hub ] || expect test "$(as_user status | sed -n 's/^unsent *\([0-9]*\).*/\1/p')" = 2
  cut_off
  expect grep -q technician "$root$settings"

  step "remove"
  "${apt[@]}" remove "$program"
  refuse test -e "$root/usr/bin/$program"
  expect grep -q technician "$root$settings"
  step "install again"
  "${apt[@]}" install /tmp/new.deb
  expect test "$(held)" = 2
  step "purge, and nobody can be asked"
  "${apt[@]}" purge "$program"
  refuse test -e "$root$settings"
  refuse test -e "$root/etc/systemd/system/multi-user.target.wants/$program.service"
  expect test -n "$(ls "$root$data"/*.db)"
  step "purge, and somebody says that the records may go"
  "${apt[@]}" install /tmp/new.deb
  expect test "$(held)" = 2
  echo "$program $program/remove-data boolean true" | "${in_root[@]}" debconf-set-selections
  "${apt[@]}" purge "$program"
  refuse test -e "$root$data"
}

# The tarball, for boxes without dpkg.
life_of_tarball() {
  program=outpost serve=run settings=/etc/outpost/outpost.toml
  local data=/var/lib/outpost folder times
  local user=("${in_root[@]}" setpriv --reuid=outpost --regid=outpost --clear-groups /usr/local/bin/outpost)
  tar -C "$root/tmp" -xzf target/cross/packages/outpost-*-armv6.tar.gz
  folder=$(cd "$root" && echo tmp/outpost-*-armv6)
  for times in first second; do
    step "tarball, for the $times time"
    "${in_root[@]}" "/$folder/install.sh"
    expect "${in_root[@]}" id outpost
    expect grep -q '^ExecStart=/usr/local/bin/outpost ' "$root/etc/systemd/system/outpost.service"
    "${in_root[@]}" install -d -o outpost -g outpost -m 700 "$data"
    [ "$times" = second ] || echo '# written by the technician' >>"$root$settings"
    serve
    save "$times"
    cut_off
  done
  expect grep -q technician "$root$settings"
  expect test "$(held)" = 2
  step "tarball, removed"
  "${in_root[@]}" "/$folder/install.sh" --remove
  refuse test -e "$root/usr/local/bin/outpost"
  refuse test -e "$root/etc/systemd/system/outpost.service"
  expect grep -q technician "$root$settings"
  expect test -e "$root$data/outpost.db"
}

[ -z "$emulator" ] || emulate
unpack_root
mount -t proc proc "$root/proc"
mount -t devpts devpts "$root/dev/pts"
life outpost run /etc/outpost/outpost.toml --config
case "$arch" in
armhf) life_of_tarball ;;
*) life outpost-hub serve /etc/outpost-hub/config.toml ;;
esac
umount "$root/dev/pts" "$root/proc"
rm -rf "$root"
printf '\n%s: installed, upgraded, removed and purged; no record was lost but those that somebody gave up\n' "$arch"
