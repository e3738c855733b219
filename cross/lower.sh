#!/usr/bin/env bash
# Makes older packages, to upgrade from, into target/cross/lower: cross/lower.sh [arm64|armhf|amd64]
# Their programs are those of the last commit that knew one layout of the gateway's database less, and their version is one number
# lower than today's. Needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
arch=${1:-arm64}
[ "$(id -u)" = 0 ] || fail "Only root can do this. Run: sudo cross/lower.sh $arch"
newest=$(git log -1 --diff-filter=A --format=%H -- agent/src/store/migrations)
[ -n "$newest" ] && git cat-file -e "$newest^" 2>/dev/null || fail "The history is not here. Run: git fetch --unshallow"
# 0.1.0 comes after 0.0.0, and 0.1.3 after 0.1.2.
lower=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1 |
  awk -F. -v OFS=. '{ for (i = NF; i > 1 && $i == 0; i--); $i--; print }')

here=$PWD older=$PWD/target/older shared=(cross/build toolchain tools debug)
if [ -n "${OUTPOST_APART:-}" ]; then
  # What both have in common is not built again: the older sources lie, for this alone, where the newer ones do.
  for folder in "${shared[@]}"; do mount --bind "target/$folder" "$older/target/$folder"; done
  mount --rbind "$older" "$here"
  cd "$here"
  echo "version $lower, of $(git log -1 --format='%h: %s')"
  exec cross/package.sh "$arch"
fi
rm -rf "$older"
git clone --quiet --no-hardlinks . "$older"
git -C "$older" checkout --quiet "$newest^"
sed -i "0,/^version = .*/s//version = \"$lower\"/" "$older/Cargo.toml"
(cd "$older" && cargo update --quiet --offline --workspace)
for folder in "${shared[@]}"; do mkdir -p "target/$folder" "$older/target/$folder"; done
OUTPOST_APART=1 unshare --mount "$0" "$arch"
mkdir -p target/cross/lower
rm -f target/cross/lower/*_"$arch.deb"
mv "$older"/target/cross/packages/*_"$arch.deb" target/cross/lower/
rm -rf "$older"
