#!/usr/bin/env bash
# Looks at what no compiler looks at: the shell scripts, and the units of the packages. Takes seconds: cross/check.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
command -v shellcheck >/dev/null || fail "shellcheck is needed. Run: apt-get install shellcheck"
command -v systemd-analyze >/dev/null || fail "systemd-analyze is needed. Run: apt-get install systemd"
# What the exposure of a unit may be at most, in tenths, as systemd-analyze security counts it; 20 is its OK.
EXPOSURE_MAX=20

mapfile -t scripts < <(git grep -lE '^#!(/bin/sh|/usr/bin/env bash)' -- .ci cross tests)
shellcheck --external-sources --severity=warning "${scripts[@]}" cross/toolchain.sh cross/root.sh cross/container.sh cross/book.sh tests/needs.sh
echo "${#scripts[@]} scripts: shellcheck finds nothing"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for unit in outpost outpost-hub; do
  # The program and its manual are not on this machine, and need not be.
  sed -e "s#^ExecStart=/usr/bin/$unit#ExecStart=/bin/true#" -e '/^Documentation=/d' "cross/package/$unit.service" >"$folder/$unit.service"
  # Before systemd 254 two keys are not known, and passed over.
  told=$(systemd-analyze verify --man=no --recursive-errors=no "$folder/$unit.service" 2>&1 |
    grep -vE "Unknown key '?(RestartSteps|RestartMaxDelaySec)'?" || true)
  [ -z "$told" ] || fail "$told"
  systemd-analyze security --no-pager --offline=true --threshold="$EXPOSURE_MAX" "$folder/$unit.service" 2>"$folder/told" | tail -1 ||
    fail "$unit.service is more exposed than it may be, or is no unit:" "$(cat "$folder/told")"
done
