#!/usr/bin/env bash
# The life of the packages in a Debian of their own, emulated where it is for another processor:
# cross/clean-root.sh [arm64|armhf|amd64]
# Each is installed one version lower (cross/lower.sh), worked with, killed, upgraded to what cross/package.sh made, removed and
# purged, and after each step it is looked at what is there. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/chroot.sh
arch=${1:-arm64}
. cross/root.sh
go_apart

life() {
  play "$1" "$2" "$3"
  local check=${4:-} version older
  version=$(bring packages new)
  older=$(bring lower lower)
  expect dpkg --compare-versions "$older" lt "$version"

  step "install $older"
  "${apt[@]}" install /tmp/lower.deb
  "${in_root[@]}" "$program" --version
  expect test -z "$("${in_root[@]}" dpkg --verify "$program")"
  expect test -L "$root/etc/systemd/system/multi-user.target.wants/$program.service"
  expect "${in_root[@]}" id "$program"
  expect "${in_root[@]}" "$program" config check $check "$settings"
  make_data
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
  expect grep -q '^## ' <(gzip -cd "$root/usr/share/doc/$program/docs/operations.md.gz")
  cut_off
  serve
  save second
  expect test "$(held)" = 2
  # What the lower version took and nobody has yet is still to be sent.
  [ "$program" = outpost-hub ] || expect test "$(unsent)" = 2
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
  play outpost run /etc/outpost/outpost.toml /usr/local/bin/outpost
  local folder times
  tar -C "$root/tmp" -xzf target/cross/packages/outpost-*-armv6.tar.gz
  folder=$(cd "$root" && echo tmp/outpost-*-armv6)
  for times in first second; do
    step "tarball, for the $times time"
    "${in_root[@]}" "/$folder/install.sh"
    expect "${in_root[@]}" id outpost
    expect test -e "$root/usr/local/share/doc/outpost/docs/operations.md.gz"
    expect grep -q '^ExecStart=/usr/local/bin/outpost ' "$root/etc/systemd/system/outpost.service"
    make_data
    [ "$times" = second ] || echo '# written by the technician' >>"$root$settings"
    serve
    save "$times"
    cut_off
  done
  expect grep -q technician "$root$settings"
  expect test "$(held)" = 2
  step "the package over the tarball says what is in its way"
  "${apt[@]}" install /tmp/new.deb 2>&1 | tee /dev/stderr | grep -F 'install.sh --remove' >/dev/null
  "${apt[@]}" remove "$program"
  step "tarball, removed"
  "${in_root[@]}" "/$folder/install.sh" --remove
  refuse test -e "$root/usr/local/bin/outpost"
  refuse test -e "$root/usr/local/share/doc/outpost"
  refuse test -e "$root/etc/systemd/system/outpost.service"
  expect grep -q technician "$root$settings"
  expect test -e "$root$data/outpost.db"
}

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
