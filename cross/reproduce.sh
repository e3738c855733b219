#!/usr/bin/env bash
# Builds the last commit once more, from nothing, in a folder with a longer name and for somebody whose files others may not read,
# and compares with what cross/build.sh made of it here: cross/reproduce.sh [TARGET[/PROGRAM]]
# If a whole target is named, the packages of both are compared, too; of ARMv7 there are none.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
wanted=${1:-aarch64}
name=${wanted%%/*}
[ -z "$(git status --porcelain)" ] || fail "There are changes that are not committed: the last commit is not what is here."
cross/build.sh "$wanted"
again=target/reproduce/in-a-folder-with-a-longer-name
rm -rf target/reproduce
mkdir -p target/reproduce

# As somebody would whose files others may not read.
elsewhere() { (umask 027 && "$@"); }

elsewhere git clone --quiet --no-hardlinks . "$again"
# As a fresh clone would get it: within the clone, and not fetched once more.
mkdir "$again/target"
bring() { [ ! -d "$1" ] || cp -a --reflink=auto "$1" "$again/target/$2"; }
bring "$toolchain" toolchain
elsewhere env -u OUTPOST_TOOLCHAIN "$again/cross/build.sh" "$wanted"

# All that a folder of target/cross got there is to be the same here.
compare() {
  local file made
  for file in "$again/target/cross/$1"/*; do
    made=$1/$(basename "$file")
    cmp "$file" "target/cross/$made" || fail "$made is not the same twice; the other one is in $again/target/cross"
    echo "the same twice: $(sha256sum "$file" | cut -d' ' -f1) $made"
  done
}

compare "$name"
case "$wanted" in
aarch64) arch=arm64 ;;
armv6) arch=armhf ;;
amd64) arch=amd64 ;;
*) arch= ;;
esac
if [ -n "$arch" ]; then
  OUTPOST_BUILT=1 cross/package.sh "$arch"
  # What makes packages is no part of them.
  bring target/tools tools
  elsewhere env OUTPOST_BUILT=1 "$again/cross/package.sh" "$arch"
  compare packages
fi
rm -rf target/reproduce
