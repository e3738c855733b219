#!/usr/bin/env bash
# Types what docs/install.md and docs/swap-a-card.md say, as it stands there, on a Debian of its own with systemd, in a container: a
# gateway and a hub are installed and joined, the plug is pulled, the card dies, once with a copy and once without one:
# cross/by-the-book.sh
# It fails where a command does not do what the page says, and where a page has one on a line of its own that was not typed. The
# plug is pulled as far as the programs know; cross/power.sh has the card lose what it had not written. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/container.sh
program=outpost
typed=$root.typed
: >"$typed"

# What a technician types: a command that stands on a page, with what was meant in the place of words such as NAME.
follow() {
  local page=$1 command=$2
  shift 2
  grep -qF -- "$command" "docs/$page" || fail "docs/$page does not say: $command"
  printf '%s\n' "$command" >>"$typed"
  while [ "$#" -gt 0 ]; do
    command=${command//"$1"/"$2"}
    shift 2
  done
  printf '\n$ %s\n' "$command" >&2
  technician "$command"
}

# Somebody who may become root. What is put into ~/.bashrc stands in another file, because that one is read at a terminal only.
technician() { inside setpriv --reuid=technician --regid=technician --init-groups env HOME=/home/technician BASH_ENV=/home/technician/typed bash -euo pipefail -c "cd; $1"; }

remember() {
  local page=$1 command=$2
  grep -qF -- "$command" "docs/$page" || fail "docs/$page does not say: $command"
  printf '%s\n' "$command" >>"$typed"
  printf '%s\n' "$command" | inside tee -a /home/technician/typed >/dev/null
}

# The lines of a page that are set as commands, from one heading to another; what is a setting is none.
commands_of() {
  awk -v from="$2" -v to="$3" 'index($0, from) == 1 { on = 1; next } index($0, to) == 1 { on = 0 } on && /^    +[a-z]/' "docs/$1" |
    sed 's/^ *//; s/  *#.*//'
}

all_were_typed() {
  local line
  [ -n "$(commands_of "$@")" ] || fail "docs/$1 has no part any more that begins with $2"
  commands_of "$@" | while IFS= read -r line; do
    grep -qxF -- "$line" "$typed" || fail "docs/$1 says what nobody has typed here: $line"
  done
}

holds() { technician "outpost records show form/$1" >/dev/null; }
hub_holds() { technician "outpost-hub records show form/$1" >/dev/null; }
at_hub() { within "the hub has $1" hub_holds "$1"; }

save() {
  printf '{"id":"%s"}\n' "$1" | inside tee /home/technician/records >/dev/null
  technician "outpost import form /home/technician/records"
}

install_gateway() {
  # There is no other machine to copy it from.
  printf 'scp outpost_*_arm64.deb USER@BOX:\n' >>"$typed"
  inside install -m 644 "/opt/$(basename "${packages[0]}")" /home/technician/
  follow install.md 'sha256sum outpost_*_arm64.deb' arm64 "$arch"
  follow install.md 'sudo apt-get install ./outpost_*_arm64.deb' arm64 "$arch"
  within "the gateway runs" technician "systemctl status outpost | grep -q 'active (running)'"
}

code() { follow "$1" "$2" NAME chingale SCOPE mw/zomba | grep -o 'OP1-[0-9A-Z-]*' | head -n 1; }

# All that was on the card is on one that was taken out.
card_dies() {
  inside systemctl stop outpost
  inside mkdir -p "$1/var/lib"
  inside mv /var/lib/outpost "$1/var/lib/"
  inside apt-get purge -qq outpost
}

set -E
trap 'inside journalctl --no-pager --quiet -n 20 -u outpost -u outpost-hub >&2' ERR
make_container
mkdir -p "$root/etc/apt/apt.conf.d"
echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/yes"
boot
inside useradd --create-home technician
inside touch /home/technician/typed
echo 'technician ALL=(ALL) NOPASSWD: ALL' | inside tee /etc/sudoers.d/technician >/dev/null

step "a hub"
inside install -m 644 "/opt/$(basename "${packages[1]}")" /home/technician/
follow install.md 'sudo apt-get install ./outpost-hub_*_amd64.deb' amd64 "$arch"
remember install.md 'outpost-hub() { sudo -u outpost-hub outpost-hub --data-dir /var/lib/outpost-hub "$@"; }'
follow install.md 'outpost-hub init --name hub.example.org:8480' hub.example.org 127.0.0.1
follow install.md 'sudo systemctl restart outpost-hub'
follow install.md 'systemctl status outpost-hub' | grep 'serving gateways on'

step "from a blank card to a working gateway"
follow install.md "printf '[Journal]\\nStorage=volatile\\nRuntimeMaxUse=16M\\n' | sudo install -D -m 644 /dev/stdin /etc/systemd/journald.conf.d/outpost.conf"
follow install.md 'sudo apt-get purge --autoremove rsyslog; sudo systemctl restart systemd-journald'
expect inside grep -qx Storage=volatile /etc/systemd/journald.conf.d/outpost.conf
install_gateway
remember install.md 'outpost() { sudo -u outpost outpost --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml "$@"; }'
follow install.md 'outpost config check && sudo systemctl restart outpost'
code=$(code install.md 'outpost-hub gateway add NAME --scope SCOPE')
follow install.md 'outpost enroll OP1-CODE' OP1-CODE "$code"
save first
follow install.md 'outpost sync'
follow install.md 'outpost status' | grep 'unsent *0 '
follow install.md 'outpost doctor'
expect hub_holds first
pull_the_plug
boot
within "the gateway runs again" holds first

step "the card dies, and there is no copy"
inside systemctl stop outpost-hub
save second
card_dies /srv/old
inside systemctl start outpost-hub
install_gateway
refuse holds first
save third
code=$(code swap-a-card.md 'outpost-hub gateway code NAME')
follow swap-a-card.md 'outpost enroll OP1-CODE' OP1-CODE "$code"
follow swap-a-card.md 'outpost sync'
expect holds first
expect hub_holds third
refuse hub_holds second
# A folder is bound in the place of the card, and has no journal that could be left alone.
follow swap-a-card.md 'sudo mount -o ro,noload /dev/sda2 /mnt' 'ro,noload /dev/sda2' 'ro --bind /srv/old'
follow swap-a-card.md 'sudo install -d -o outpost -g outpost -m 700 /var/lib/outpost/old-card'
follow swap-a-card.md "sudo sh -c 'cp /mnt/var/lib/outpost/outpost*.db* /var/lib/outpost/old-card/'"
follow swap-a-card.md 'sudo chown -R outpost: /var/lib/outpost/old-card'
follow swap-a-card.md 'outpost rescue /var/lib/outpost/old-card/outpost.db'
expect hub_holds second
follow swap-a-card.md 'outpost sync'
expect holds second
follow swap-a-card.md 'outpost doctor'
inside umount /mnt
inside rm -r /var/lib/outpost/old-card

step "the card of an encrypted gateway dies, and there is a copy"
# In the place of a stick: copies on the medium of the database itself are refused.
inside mkdir -p /media/stick
inside mount -t tmpfs tmpfs /media/stick
inside chown outpost: /media/stick
technician 'outpost key make /media/stick/outpost.key'
settings=$(printf '[backup]\npath = "/media/stick"\n[encryption]\nkey = "file"\nkey_file = "/media/stick/outpost.key"\n')
configure() {
  inside sed -i '/^\[backup\]/,$d' /etc/outpost/outpost.toml
  printf '%s\n' "$settings" | inside tee -a /etc/outpost/outpost.toml >/dev/null
  technician 'outpost config check'
}
inside systemctl stop outpost
configure
technician 'outpost key encrypt'
inside systemctl start outpost
save fourth
inside systemctl restart outpost
within "there is a copy" inside sh -c 'ls /media/stick/outpost-backup-*.db'
card_dies /srv/older
install_gateway
copy=$(inside sh -c 'ls /media/stick/outpost-backup-*.db' | tail -n 1)
named=${copy#/media/stick/outpost-backup-}
named=${named%.db}
# Both files, and the settings, before it starts again.
follow swap-a-card.md 'sudo systemctl stop outpost'
follow swap-a-card.md 'sudo rm -f /var/lib/outpost/outpost.db-wal /var/lib/outpost/outpost.db-shm'
follow swap-a-card.md 'sudo install -o outpost -g outpost -m 600 /media/stick/outpost-backup-DEVICE-TIME.db /var/lib/outpost/outpost.db' DEVICE-TIME "$named"
follow swap-a-card.md 'sudo install -o outpost -g outpost -m 600 /media/stick/outpost-backup-DEVICE-TIME.db-keys /var/lib/outpost/outpost.db-keys' DEVICE-TIME "$named"
configure
follow swap-a-card.md 'sudo systemctl start outpost'
within "the gateway runs" holds fourth
expect holds first
technician 'outpost key status' | grep 'encrypted'
save fifth
at_hub fifth

all_were_typed install.md '## From a blank card' '## A stick for copies'
all_were_typed install.md '## A hub' '## Upgrading'
all_were_typed swap-a-card.md '## A new card' '## What one worries about'
end_container
rm -f "$typed"
printf '\n%s: both pages do what they say\n' "$arch"
