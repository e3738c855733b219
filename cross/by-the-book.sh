#!/usr/bin/env bash
# Types what docs/install.md and docs/swap-a-card.md say: a gateway and a hub are installed and joined, the plug is pulled, the card
# dies, once with a copy and once without one: cross/by-the-book.sh
# The plug is pulled as far as the programs know; cross/power.sh has the card lose what it had not written. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/container.sh
. cross/book.sh

# All that was on the card is on one that was taken out.
card_dies() {
  inside systemctl stop outpost
  inside mkdir -p "$1/var/lib"
  inside mv /var/lib/outpost "$1/var/lib/"
  inside apt-get purge -qq outpost
}

begin_book
make_hub

step "from a blank card to a working gateway"
follow install.md "printf '[Journal]\\nStorage=volatile\\nRuntimeMaxUse=16M\\n' | sudo install -D -m 644 /dev/stdin /etc/systemd/journald.conf.d/outpost.conf"
follow install.md 'sudo apt-get purge --autoremove rsyslog; sudo systemctl restart systemd-journald'
expect inside grep -qx Storage=volatile /etc/systemd/journald.conf.d/outpost.conf
install_gateway
join_hub
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
