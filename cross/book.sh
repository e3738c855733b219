# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts that type what pages of docs/ say, as it stands there, on a Debian of their own with systemd, in a container;
# after container.sh. They fail where a command does not do what its page says, and where a page has one on a line of its own that was
# not typed.

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
  awk -v from="$2" -v to="$3" 'index($0, from) == 1 { on = 1; next } index($0, to) == 1 { on = 0 } on && /^    +[a-z]/ && !/^ +[a-z_]+ = /' "docs/$1" |
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

join_hub() {
  local code
  remember install.md 'outpost() { sudo -u outpost outpost --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml "$@"; }'
  follow install.md 'outpost config check && sudo systemctl restart outpost'
  code=$(code install.md 'outpost-hub gateway add NAME --scope SCOPE')
  follow install.md 'outpost enroll OP1-CODE' OP1-CODE "$code"
}

code() { follow "$1" "$2" NAME chingale SCOPE mw/zomba | grep -o 'OP1-[0-9A-Z-]*' | head -n 1; }

# The container, with somebody in it who may become root.
begin_book() {
  set -E
  trap 'inside journalctl --no-pager --quiet -n 20 -u outpost -u outpost-hub >&2' ERR
  make_container
  mkdir -p "$root/etc/apt/apt.conf.d"
  echo 'APT::Get::Assume-Yes "true";' >"$root/etc/apt/apt.conf.d/yes"
  boot
  inside useradd --create-home technician
  inside touch /home/technician/typed
  echo 'technician ALL=(ALL) NOPASSWD: ALL' | inside tee /etc/sudoers.d/technician >/dev/null
}

make_hub() {
  step "a hub"
  inside install -m 644 "/opt/$(basename "${packages[1]}")" /home/technician/
  follow install.md 'sudo apt-get install ./outpost-hub_*_amd64.deb' amd64 "$arch"
  remember install.md 'outpost-hub() { sudo -u outpost-hub outpost-hub --data-dir /var/lib/outpost-hub "$@"; }'
  follow install.md 'outpost-hub init --name hub.example.org:8480' hub.example.org 127.0.0.1
  follow install.md 'sudo systemctl restart outpost-hub'
  follow install.md 'systemctl status outpost-hub' | grep 'serving gateways on'
}
