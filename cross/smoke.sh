#!/usr/bin/env bash
# The programs of another machine, at work on this one under emulation: cross/smoke.sh [aarch64|armv7|armv6|all]
# Plays the story (enrol, capture, conflict, sync, settle, status) and the scenarios with kill -9 and with the service manager, on
# the files that cross/build.sh made; where the machine has 32 bits, the story once more after 2038.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
. cross/emulated.sh
wanted=("${@:-all}")
[ "${wanted[0]}" != all ] || wanted=(aarch64 armv7 armv6)
can_run "${wanted[@]}"
for name in "${wanted[@]}"; do
  ! is_32_bit "$(triple_of "$name")" || can_set_clock "$name"
done
build_players
for name in "${wanted[@]}"; do
  lay_out "$name"
  "$folder/outpost-story" --once
  # Fewer kills than the suite's: all is ten times as slow here.
  OUTPOST_KILLS=${OUTPOST_KILLS:-20} play kill:: service:: --test-threads=1
  if is_32_bit "$(triple_of "$name")"; then
    set_clock "$name" 2040-02-29
    "$folder/outpost-story" --once
    grep -q '^2040-' target/story/chingale/log || fail "The clock was not set."
  fi
  rm -rf "$folder"
done
