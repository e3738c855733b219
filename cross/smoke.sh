#!/usr/bin/env bash
# The programs of another machine, at work on this one under emulation: cross/smoke.sh [aarch64|armv7|armv6|all]
# Plays the story (enrol, capture, conflict, sync, settle, status) and the scenarios with kill -9 and with the service manager, on
# the files that cross/build.sh made. What plays is this machine's own, and so is the hub where there is none for the target.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
wanted=("${@:-all}")
[ "${wanted[0]}" != all ] || wanted=(aarch64 armv7 armv6)
# The processor is named where a newer one would forgive what the real one does not.
emulator_of() {
  case "$1" in
  aarch64) echo qemu-aarch64-static -cpu cortex-a53 ;;
  armv7) echo qemu-arm-static -cpu cortex-a7 ;;
  armv6) echo qemu-arm-static -cpu arm1176 ;;
  *) fail "no emulation for $1. There are aarch64, armv7, armv6 and all." ;;
  esac
}
command -v qemu-arm-static >/dev/null || fail "qemu is needed. Run: apt-get install qemu-user-static"
for name in "${wanted[@]}"; do
  emulator_of "$name" >/dev/null
  [ -x "target/cross/$name/outpost" ] || fail "There is no program for $name yet. Run: cross/build.sh $name"
done

cargo build --locked --quiet --bin outpost-story --bin outpost-hub
scenarios=$(cargo test --locked --quiet --no-run --workspace --test scenarios --message-format=json |
  sed -n 's/.*"target":{[^}]*"name":"scenarios".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
built=${CARGO_TARGET_DIR:-target}/debug
for name in "${wanted[@]}"; do
  printf '\n== %s: %s\n' "$name" "$(emulator_of "$name")"
  # The players take the programs that lie beside them.
  folder=$PWD/target/cross/smoke/$name
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$built/outpost-story" "$built/outpost-hub" "$folder"
  cp "$scenarios" "$folder/scenarios"
  for program in outpost outpost-hub; do
    [ -e "target/cross/$name/$program" ] || continue
    rm -f "$folder/$program"
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$(emulator_of "$name")" "$PWD/target/cross/$name/$program" >"$folder/$program"
    chmod +x "$folder/$program"
    echo "$("$folder/$program" --version) of $name"
  done
  "$folder/outpost-story" --once
  # Fewer kills than the suite's: all is ten times as slow here.
  OUTPOST_KILLS=${OUTPOST_KILLS:-20} "$folder/scenarios" kill:: service:: --test-threads=1
  rm -rf "$folder"
done
