# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts that work with packages in a Debian of their own without systemd, emulated where it is for another
# processor; after toolchain.sh. It puts nothing outside of target/cross.

# For $arch; runs the script once more, with this after the architecture, where what is mounted and started is seen by nobody else,
# and ends with it.
go_apart() {
  case "$arch" in
  arm64) emulator=qemu-aarch64 ;;
  armhf) emulator=qemu-arm ;;
  amd64) emulator= ;;
  *) fail "no such architecture: $arch. There are arm64, armhf and amd64." ;;
  esac
  [ "$(id -u)" = 0 ] || fail "Only root can do this. Run: sudo $0 $arch"
  compgen -G "target/cross/packages/outpost_*_$arch.deb" >/dev/null || fail "There is no package yet. Run: cross/package.sh $arch"
  compgen -G "target/cross/lower/outpost_*_$arch.deb" >/dev/null || fail "There is no older package yet. Run: cross/lower.sh $arch"
  if [ -z "${OUTPOST_APART:-}" ]; then
    exec env OUTPOST_APART=1 unshare --mount --pid --fork --kill-child "$0" "$arch" "$@"
  fi
  mount -t proc proc /proc
  in_root=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root DEBIAN_FRONTEND=noninteractive)
  apt=("${in_root[@]}" apt-get -qq -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef)
  [ -z "$emulator" ] || emulate
}

# The kernel has to know who reads programs of another processor. Where it did not, it forgets at the end.
emulate() {
  local format=/usr/lib/binfmt.d/$emulator.conf formats=/proc/sys/fs/binfmt_misc
  [ -e "$format" ] || fail "qemu is needed. Run: apt-get install qemu-user-static"
  mount -t binfmt_misc binfmt_misc "$formats"
  if [ ! -e "$formats/$emulator" ]; then
    cat "$format" >"$formats/register"
    trap 'echo -1 >"/proc/sys/fs/binfmt_misc/$emulator"' EXIT
  fi
}

# What is about $program: what starts it, its settings and its folder.
play() {
  program=$1 serve=$2 settings=$3 data=/var/lib/$1
  user=("${in_root[@]}" setpriv --reuid="$1" --regid="$1" --clear-groups "${4:-/usr/bin/$1}")
}

as_user() { "${user[@]}" "$@" --data-dir "$data"; }

# With systemd this is StateDirectory=.
make_data() { "${in_root[@]}" install -d -o "$program" -g "$program" -m 700 "$data"; }

serve() {
  coproc DAEMON { exec "${user[@]}" "$serve" --listen 127.0.0.1:0 --config "$settings" --data-dir "$data" 2>>"$root/tmp/log"; }
  IFS= read -r line <&"${DAEMON[0]}" || fail "$program does not start:" "$(cat "$root/tmp/log")"
  echo "$line"
}

cut_off() {
  kill -9 "$DAEMON_PID"
  wait "$DAEMON_PID" 2>/dev/null || true
}

unsent() { as_user status | sed -n 's/^unsent *\([0-9]*\).*/\1/p'; }
