#!/usr/bin/env bash
# Makes the packages, into target/cross/packages: cross/package.sh [arm64|armhf|amd64|all]
# .deb files of outpost for arm64, armhf and amd64, and of outpost-hub for arm64 and amd64; with armhf, a tarball for boxes without dpkg.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
wanted=("${@:-all}")
[ "${wanted[0]}" != all ] || wanted=(arm64 armhf amd64)
# Debian says armhf for ARMv7, and Raspberry Pi OS says it for ARMv6 too. A package cannot tell them apart, so its program runs on both.
target_of() {
  case "$1" in
  arm64) echo aarch64 ;;
  armhf) echo armv6 ;;
  amd64) echo amd64 ;;
  *) fail "no such architecture: $1. There are arm64, armhf, amd64 and all." ;;
  esac
}
targets=()
for arch in "${wanted[@]}"; do targets+=("$(target_of "$arch")"); done
# Another version may pack the same in other bytes.
cargo_deb=3.8.0
if [ "$(PATH="$PWD/target/tools/bin:$PATH" cargo-deb --version 2>/dev/null)" != "$cargo_deb" ]; then
  cargo install --quiet --locked --no-default-features --version "$cargo_deb" cargo-deb --root target/tools ||
    fail "cargo-deb $cargo_deb is needed. Run: cargo install --locked --version $cargo_deb cargo-deb"
fi
[ -n "${OUTPOST_BUILT:-}" ] || cross/build.sh "${targets[@]}"
export PATH="$PWD/target/tools/bin:$PATH" LC_ALL=C
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
echo "== man pages and completions"
rm -rf target/cross/manual
cargo run --locked --quiet -p outpost-manual -- target/cross/manual
packages=$PWD/target/cross/packages
mkdir -p "$packages"
for arch in "${wanted[@]}"; do rm -f "$packages"/*_"$arch.deb"; done
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

for program in outpost outpost-hub; do
  {
    printf '%s (%s-1) unstable; urgency=medium\n\n  * See CHANGELOG.md in the sources.\n\n' "$program" "$version"
    printf ' -- The Outpost authors <outpost@outpost.example>  %s\n' "$(date -u -R -d "@$SOURCE_DATE_EPOCH")"
  } >"target/cross/manual/$program/changelog"
  # Who stands before the box may have no internet. Debian packs what is longer than 4 KiB.
  mkdir -p "target/cross/manual/$program/docs"
  for page in install operations protocol reliability rules security swap-a-card walkthrough; do
    cp "docs/$page.md" "target/cross/manual/$program/docs"
  done
  find "target/cross/manual/$program/docs" -type f -size +4k -exec gzip -9n {} +
done

deb() {
  echo "== $2 for $1"
  CARGO_TARGET_DIR="$PWD/target/cross/build" cargo deb --quiet --locked --no-build --no-strip -p "$3" \
    --target "$(triple_of "$(target_of "$1")")" --output "$packages/"
  # What is tried under emulation is what is packed.
  dpkg-deb --fsys-tarfile "$packages/$2"_*_"$1.deb" | tar -xO "./usr/bin/$2" | cmp - "target/cross/$(target_of "$1")/$2"
}

tarball() {
  local folder=target/cross/outpost-$version-armv6
  echo "== tarball for armv6"
  rm -rf "$folder" "$packages"/*.tar.gz
  mkdir -p "$folder"
  cp target/cross/armv6/outpost cross/package/install.sh cross/package/outpost.service cross/package/outpost.toml LICENSE "$folder"
  cp agent/src/config.toml "$folder/outpost.toml.sample"
  cp -r target/cross/manual/outpost/*.1 target/cross/manual/outpost/outpost.bash target/cross/manual/outpost/docs "$folder"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" -C target/cross \
    -cf - "${folder##*/}" | gzip -9n >"$packages/${folder##*/}.tar.gz"
  rm -rf "$folder"
}

for arch in "${wanted[@]}"; do
  deb "$arch" outpost agent
  case "$arch" in
  armhf) tarball ;;
  *) deb "$arch" outpost-hub server-stub ;;
  esac
done
echo "== lintian"
if command -v lintian >/dev/null; then
  for arch in "${wanted[@]}"; do lintian --fail-on error "$packages"/*_"$arch.deb"; done
else
  echo "NOT LOOKED AT: lintian is not here. Run: apt-get install lintian"
fi
(cd "$packages" && sha256sum -- *)
