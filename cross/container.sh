# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts that boot a Debian of their own with systemd in a container, for packages of this machine's kind; after
# toolchain.sh. The container has no network but its own.

[ "$(id -u)" = 0 ] || fail "Only root can do this. Run: sudo $0"
command -v systemd-nspawn >/dev/null || fail "systemd-nspawn is needed. Run: apt-get install systemd-container"
arch=$(dpkg --print-architecture)
. cross/root.sh
packages=(target/cross/packages/outpost_*_"$arch".deb target/cross/packages/outpost-hub_*_"$arch".deb)
[ -e "${packages[1]}" ] || fail "There is no package yet. Run: cross/package.sh $arch"

# A fresh one, with the packages in its /opt.
make_container() {
  unpack_root
  cp "${packages[@]}" "$root/opt"
  echo clinic >"$root/etc/hostname"
  echo '127.0.0.1 localhost clinic' >"$root/etc/hosts"
}

boot() {
  systemd-nspawn --quiet --directory="$root" --boot --private-network --register=no --keep-unit --tmpfs=/mnt \
    </dev/null >"$root.log" 2>&1 &
  container=$!
  trap 'kill "$container" 2>/dev/null || true; wait "$container" 2>/dev/null || true' EXIT
  within "the container has an init" init_of
  init=$(init_of)
  within "the system has started" inside systemctl is-system-running --wait
}

# Everything in it is gone at once.
pull_the_plug() {
  kill -9 "$init"
  wait "$container" || true
}

end_container() {
  inside systemctl poweroff --no-wall || true
  wait "$container" || true
  trap - EXIT
  rm -rf "$root"
}

# The process that is systemd in the container: the child of what nspawn has forked for it.
init_of() { pgrep -P "$container" | head -1 | grep .; }
inside() { nsenter --target "$init" --all env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root DEBIAN_FRONTEND=noninteractive "$@"; }

# Waits for a minute at most.
within() {
  local what=$1 until=$((SECONDS + 60))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || fail "waited a minute: $what" "$(tail -5 "$root.log")"
    sleep 0.2
  done
}
