#!/usr/bin/env bash
# Builds the last commit twice, in two folders with names of different length, and compares: cross/reproduce.sh [TARGET]
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-aarch64}
export OUTPOST_TOOLCHAIN=${OUTPOST_TOOLCHAIN:-$PWD/target/toolchain}
rm -rf target/reproduce
for folder in target/reproduce/a target/reproduce/b/with-a-longer-name; do
  mkdir -p "$(dirname "$folder")"
  git clone --quiet --no-hardlinks . "$folder"
  "$folder/cross/build.sh" "$name"
done
for file in target/reproduce/a/target/cross/"$name"/outpost*; do
  cmp "$file" "target/reproduce/b/with-a-longer-name/target/cross/$name/$(basename "$file")"
  echo "the same twice: $(sha256sum "$file" | cut -d' ' -f1) $name/$(basename "$file")"
done
rm -rf target/reproduce
