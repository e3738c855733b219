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
systemd() { [ -d /run/systemd/system ] && systemctl "$@"; }
case "${1:-}" in
--remove)
  systemd disable --now outpost || true
  rm -f /usr/local/bin/outpost /etc/systemd/system/outpost.service /usr/local/share/man/man1/outpost*.1 "$completions/outpost"
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
install -d /usr/local/bin /usr/local/share/man/man1 "$completions" /etc/systemd/system /etc/outpost
# By renaming: a cut in the middle leaves the old program or the new one, and a running one is not disturbed.
install -m 755 outpost /usr/local/bin/.outpost.new
sync -f /usr/local/bin
mv -f /usr/local/bin/.outpost.new /usr/local/bin/outpost
sed 's#/usr/bin/outpost#/usr/local/bin/outpost#' outpost.service >/etc/systemd/system/outpost.service
install -m 644 ./*.1 /usr/local/share/man/man1/
install -m 644 outpost.bash "$completions/outpost"
[ -e /etc/outpost/outpost.toml ] || install -m 644 outpost.toml /etc/outpost/outpost.toml
sync
if systemd daemon-reload; then
  systemctl enable outpost
  systemctl restart outpost
fi
cat <<'TEXT'
The gateway is installed. Next, join it to a hub:
  outpost() { sudo -u outpost outpost --data-dir /var/lib/outpost --config /etc/outpost/outpost.toml "$@"; }
  outpost enroll OP1-CODE        the admin of the hub makes the code
  outpost status                         what is held, and what waits
TEXT
