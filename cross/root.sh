# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by the scripts that try packages: a Debian of their own for $arch in $root, and what they say of it. It is Debian 12, or
# the one that OUTPOST_RELEASE names.

release=${OUTPOST_RELEASE:-bookworm}
base=$PWD/target/cross/base-$release-$arch.tar
root=$PWD/target/cross/root-$arch

step() { printf '\n== %s: %s\n' "$program" "$1"; }
expect() { "$@" || fail "$program: not so: $*"; }
refuse() { ! "$@" || fail "$program: it should not be so: $*"; }

# The records of a life: one is saved under a name, and it is told how many are held. as_user is the script's.
save() {
  case "$program" in
  outpost)
    printf '{"id":"%s"}\n' "$1" >"$root/opt/records"
    as_user import form /opt/records
    ;;
  outpost-hub) as_user gateway add "$1" --scope mw ;;
  esac
}

held() {
  case "$program" in
  outpost) as_user records list form ;;
  outpost-hub) as_user gateway list ;;
  esac | grep -cE '\b(first|second|third)\b'
}

# Puts the package of $program from a folder of target/cross under a name, and says its version.
bring() {
  local package
  package=$(ls target/cross/"$1/$program"_*_"$arch".deb)
  cp "$package" "$root/tmp/$2.deb"
  dpkg-deb -f "$package" Version
}

# Once for all.
make_base() {
  if [ -e "$base" ]; then return; fi
  command -v debootstrap >/dev/null || fail "debootstrap is needed. Run: apt-get install debootstrap"
  echo "making a Debian $release for $arch ..."
  rm -rf "$root"
  debootstrap --arch="$arch" --variant=minbase --include=ca-certificates,dbus,sudo,systemd "$release" "$root" >"$base.log" ||
    fail "debootstrap failed: $base.log"
  rm -f "$root"/var/cache/apt/archives/*.deb
  tar -C "$root" --one-file-system -cf "$base.part" .
  mv "$base.part" "$base"
}

# A fresh one from the base; the folder may be a file system of its own.
unpack_root() {
  make_base
  mountpoint -q "$root" || rm -rf "$root"
  mkdir -p "$root"
  tar -C "$root" -xf "$base"
  # Where debootstrap may not mount, it leaves a link.
  if [ -L "$root/proc" ]; then rm "$root/proc"; fi
  mkdir -p "$root/proc"
}
