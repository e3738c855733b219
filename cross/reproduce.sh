#!/usr/bin/env bash
# Builds the last commit once more, from nothing and in a folder with a longer name, and compares with what cross/build.sh made
# of it here: cross/reproduce.sh [TARGET[/PROGRAM]]
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
git clone --quiet --no-hardlinks . "$again"
# As a fresh clone would get it: within the clone, and not fetched once more.
mkdir "$again/target"
[ ! -d "$toolchain" ] || cp -a --reflink=auto "$toolchain" "$again/target/toolchain"
env -u OUTPOST_TOOLCHAIN "$again/cross/build.sh" "$wanted"
for file in "$again/target/cross/$name"/outpost*; do
  program=$name/$(basename "$file")
  cmp "$file" "target/cross/$program" || fail "$program is not the same twice; the other one is in $again/target/cross"
  echo "the same twice: $(sha256sum "$file" | cut -d' ' -f1) $program"
done
rm -rf target/reproduce
