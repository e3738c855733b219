#!/usr/bin/env bash
# The units at work: boots a Debian of its own with systemd, in a container, and installs the packages of this machine's kind
# there: cross/under-systemd.sh
# They are started, killed, hung, upgraded and removed, and what systemd says of it is looked at. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/container.sh

is() { [ "$(inside systemctl show --property="$1" --value "$program")" = "$2" ]; }
pid() { inside systemctl show --property=MainPID --value "$program"; }

as_user() { inside setpriv --reuid="$program" --regid="$program" --clear-groups "/usr/bin/$program" "$@" --data-dir "/var/lib/$program"; }

life() {
  program=$1
  local before

  step "it is ready when it says so"
  expect is ActiveState active
  expect is StatusText "$2"
  save first
  step "kill -9"
  before=$(pid)
  signal KILL
  within "$program is there again" runs_again "$before"
  save second
  step "it hangs"
  before=$(pid)
  signal STOP
  within "systemd ends it and starts it again" runs_again "$before"
  save third
  expect test "$(held)" = 3
  expect is NRestarts 2

  step "the same package again, as an upgrade does"
  before=$(pid)
  inside dpkg --install "/opt/$(basename "$(compgen -G "target/cross/packages/${program}_*_$arch.deb")")"
  within "the new one runs" runs_again "$before"
  step "stop"
  inside systemctl stop "$program"
  expect is Result success
  step "a database of a newer program, which systemd does not try again and again"
  # The command is the last to close the database, which folds its log.
  expect test "$(held)" = 3
  set_layout '\0\0\0\143'
  refuse inside systemctl start "$program"
  expect is ExecMainStatus 7
  expect is NRestarts 0
  set_layout "$3"
  step "remove"
  inside systemctl start "$program"
  expect test "$(held)" = 3
  inside apt-get remove -qq -o Dpkg::Use-Pty=0 "$program"
  refuse is ActiveState active
  expect test -e "$root/var/lib/$program"
}

# The number of its layout stands in the header of the database, once its log has been folded.
set_layout() {
  local database
  database=$(compgen -G "$root/var/lib/$program/*.db")
  printf '%b' "$1" | dd of="$database" bs=1 seek=60 conv=notrunc status=none
}

layout_of() { printf '\\0\\0\\0\\%03o' "$(find "$1" -name '*.sql' | wc -l)"; }

signal() { inside systemctl kill --kill-whom=main --signal="$1" "$program"; }
# For a moment it counts as active and has no process.
runs_again() { is ActiveState active && [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ]; }

# Hardening must not keep the gateway from its second medium.
copies() {
  program=outpost
  step "a copy on a second medium"
  inside install -d -o outpost -g outpost -m 700 /mnt/stick
  printf '\n[backup]\npath = "/mnt/stick"\n' >"$root/tmp-backup"
  inside sh -c 'sed -i "/^\[backup\]/,\$d" /etc/outpost/outpost.toml && cat /tmp-backup >>/etc/outpost/outpost.toml'
  inside systemctl restart outpost
  within "there is a copy" inside sh -c 'ls /mnt/stick/outpost-backup-*.db'
}

make_container
# A hang of minutes is too long to wait for here.
for program in outpost outpost-hub; do
  mkdir -p "$root/etc/systemd/system/$program.service.d"
  printf '[Service]\nWatchdogSec=10s\nTimeoutAbortSec=3s\n' >"$root/etc/systemd/system/$program.service.d/short.conf"
done
boot
inside dpkg --install "/opt/$(basename "${packages[0]}")" "/opt/$(basename "${packages[1]}")"
copies
life outpost "serving this machine on http://127.0.0.1:8470" "$(layout_of agent/src/store/migrations)"
life outpost-hub "serving gateways on 127.0.0.1:8480" "$(layout_of server-stub/src/store)"
end_container
printf '\n%s: both units ran under systemd, were killed and hung, came back, and lost nothing\n' "$arch"
