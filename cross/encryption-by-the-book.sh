#!/usr/bin/env bash
# Types what docs/operations.md says of encryption: a gateway from a package gets a key on a stick, loses it, has the hub help it, gets
# another key, is made plain again, and gets a credential of systemd: cross/encryption-by-the-book.sh
# What a command asks for at a terminal it is told by --passphrase-fd here. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/container.sh
. cross/book.sh
page=operations.md

is_encrypted() { [ "$(inside head -c 15 /var/lib/outpost/outpost.db)" != "SQLite format 3" ]; }
# The last lines of the log are in it.
says() { inside systemctl status --no-pager --full outpost | grep -F -- "$1"; }

settings() {
  inside sed -i '/^\[encryption\]/,$d' /etc/outpost/outpost.toml
  printf '%s\n' '[encryption]' "$@" | inside tee -a /etc/outpost/outpost.toml >/dev/null
  technician 'outpost config check'
}

# The hub has what was saved, and both hold it once.
works() {
  within "the gateway serves" holds first
  save "$1"
  technician 'outpost sync' >/dev/null
  expect hub_holds "$1"
}

begin_book
make_hub
step "a gateway that is joined"
install_gateway
join_hub
save first
technician 'outpost sync' >/dev/null
refuse is_encrypted

step "a key file on a stick"
inside mkdir -p /media/key
inside mount -t tmpfs tmpfs /media/key
inside chown outpost: /media/key
follow $page 'outpost key make /media/key/outpost.key'
settings 'key = "file"' 'key_file = "/media/key/outpost.key"'
follow $page 'sudo systemctl stop outpost'
follow $page 'outpost key encrypt'
follow $page 'sudo systemctl start outpost'
works second
expect is_encrypted
within "the hub has a copy of the key" technician 'outpost key status | grep "has a copy"'

step "the stick is out, and in again"
inside mv /media/key/outpost.key /srv/
inside systemctl restart outpost
within "it says what is missing" says /media/key/outpost.key
refuse holds first
inside mv /srv/outpost.key /media/key/
works third

step "the key is lost"
inside rm /media/key/outpost.key
inside systemctl restart outpost
within "it says what is missing" says /media/key/outpost.key
letters=$(follow $page 'outpost-hub gateway recovery-key chingale' | grep '^OPK-')
follow $page 'outpost key make /media/key/outpost.key'
follow $page 'outpost key recover' recover 'recover --passphrase-fd 0' <<<"$letters"
works fourth

step "a passphrase beside it, and another key"
follow $page 'outpost key add SOURCE' SOURCE 'passphrase --passphrase-fd 0' <<<'moto nyumba mvula njingo'
follow $page 'outpost key renew'
works fifth
follow $page 'outpost key status' | grep 'encrypted'

step "plain again"
inside systemctl stop outpost
follow $page 'outpost key decrypt'
settings 'key = "off"'
inside systemctl start outpost
works sixth
refuse is_encrypted

step "a credential of systemd"
follow $page 'outpost key make /dev/shm/outpost.key'
follow $page 'sudo mkdir -p -m 700 /etc/credstore.encrypted'
follow $page 'sudo systemd-creds encrypt --name=outpost.key /dev/shm/outpost.key /etc/credstore.encrypted/outpost.key'
follow $page "printf '[Service]\\nLoadCredentialEncrypted=outpost.key:/etc/credstore.encrypted/outpost.key\\n' | sudo install -D -m 644 /dev/stdin /etc/systemd/system/outpost.service.d/key.conf"
follow $page 'sudo systemctl daemon-reload'
settings 'key = "credential"'
follow $page 'sudo systemctl stop outpost'
follow $page 'outpost key encrypt --key-file /dev/shm/outpost.key'
follow $page 'sudo systemctl start outpost'
follow $page 'sudo rm /dev/shm/outpost.key'
works seventh
expect is_encrypted
pull_the_plug
boot
works eighth
run='sudo systemd-run --pty --wait --collect --property=User=outpost --property=LoadCredentialEncrypted=outpost.key:/etc/credstore.encrypted/outpost.key /usr/bin/outpost --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml key add passphrase'
follow $page "$run" --pty --pipe 'add passphrase' 'add passphrase --passphrase-fd 0' <<<'nyanja mwezi mtengo mbalame'

step "the credential is not given, and a passphrase opens it"
inside rm /etc/systemd/system/outpost.service.d/key.conf
inside systemctl daemon-reload
inside systemctl restart outpost
within "it says what is missing" says LoadCredentialEncrypted
follow $page 'outpost unlock' unlock 'unlock --passphrase-fd 0' <<<'nyanja mwezi mtengo mbalame'
works ninth

all_were_typed $page '## Encryption of the card' '## Sending what'
end_container
rm -f "$typed"
printf '\n%s: encryption does what its page says\n' "$arch"
