#!/bin/sh
# Installs the gateway on a box without packages, or a newer one over an older one: sudo ./install.sh
# With --remove it is taken away again. The records in /var/lib/outpost are never touched.
set -eu
cd "$(dirname "$0")"
if [ "$(id -u)" != 0 ]; then
  echo "install.sh must be run by root: sudo ./install.sh" >&2
  exit 1
fi
completions=/usr/local/share/bash-completion/completions
docs=/usr/local/share/doc/outpost/docs
systemd() { [ -d /run/systemd/system ] && systemctl "$@"; }
case "${1:-}" in
--remove)
  systemd disable --now outpost || true
  rm -f /usr/local/bin/outpost /etc/systemd/system/outpost.service /usr/local/share/man/man1/outpost*.1 "$completions/outpost" \
    /etc/outpost/outpost.toml.sample
  rm -rf "${docs%/docs}"
  systemd daemon-reload || true
  echo "removed; the records in /var/lib/outpost and the settings in /etc/outpost are kept"
  exit 0
  ;;
"") ;;
*)
  echo "usage: install.sh [--remove]" >&2
  exit 2
  ;;
esac
# What cannot run here must not replace what can.
./outpost --version
id outpost >/dev/null 2>&1 ||
  useradd --system --user-group --home-dir /var/lib/outpost --no-create-home --shell /usr/sbin/nologin outpost
install -d /usr/local/bin /usr/local/share/man/man1 "$completions" "$docs" /etc/systemd/system /etc/outpost
# By renaming: a cut in the middle leaves the old file or the new one, and a program that runs is not disturbed.
put() {
  beside=${3%/*}/.${3##*/}.new
  install -m "$1" "$2" "$beside"
  sync -f "$beside"
  mv -f "$beside" "$3"
}
unit=$(mktemp)
trap 'rm -f "$unit"' EXIT
sed 's#/usr/bin/outpost#/usr/local/bin/outpost#' outpost.service >"$unit"
put 755 outpost /usr/local/bin/outpost
put 644 "$unit" /etc/systemd/system/outpost.service
install -m 644 ./*.1 /usr/local/share/man/man1/
install -m 644 outpost.bash "$completions/outpost"
install -m 644 docs/* "$docs"
[ -e /etc/outpost/outpost.toml ] || put 644 outpost.toml /etc/outpost/outpost.toml
install -m 644 outpost.toml.sample /etc/outpost/outpost.toml.sample
sync
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl enable outpost
  systemctl restart outpost
  echo "The gateway is installed, and runs. Next, join it to a hub:"
else
  # With systemd the unit does this.
  [ -d /var/lib/outpost ] || install -d -o outpost -g outpost -m 700 /var/lib/outpost
  cat <<'TEXT'
The gateway is installed, but NOTHING RUNS yet: there is no systemd here. Whatever starts services on this box has to start this
one, as the user outpost, and again when it ends:
  /usr/local/bin/outpost run --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml
To try it by hand: the same after sudo -u outpost. Next, once it runs, join it to a hub:
TEXT
fi
cat <<'TEXT'
  outpost() { sudo -u outpost outpost --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml "$@"; }
  outpost enroll OP1-CODE        the admin of the hub makes the code
  outpost status                         what is held, and what waits
TEXT
