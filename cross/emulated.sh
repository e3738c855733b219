# shellcheck shell=bash disable=SC2154
# Sourced by the scripts that run the programs of another machine on this one, after toolchain.sh. What plays is this machine's
# own, and so is the hub where there is none for the target.

# The processor is named where a newer one would forgive what the real one does not.
emulator_of() {
  case "$1" in
  aarch64) echo qemu-aarch64-static -cpu cortex-a53 ;;
  armv7) echo qemu-arm-static -cpu cortex-a7 ;;
  armv6) echo qemu-arm-static -cpu arm1176 ;;
  *) fail "no emulation for $1. There are aarch64, armv7, armv6 and all." ;;
  esac
}

# Ends, with what to do, where one of these targets cannot be run yet.
can_run() {
  command -v qemu-arm-static >/dev/null || fail "qemu is needed. Run: apt-get install qemu-user-static"
  local name
  for name in "$@"; do
    emulator_of "$name" >/dev/null
    [ -x "target/cross/$name/outpost" ] || fail "There is no program for $name yet. Run: cross/build.sh $name"
  done
}

# The same emulator as a program that a library can be loaded into, which a static one is not; and from Debian 13 on all are static.
loading_emulator_of() { emulator_of "$1" | sed 's/-static / /'; }

# Ends, with what to do, where the clock of a target cannot be set.
can_set_clock() {
  local emulator
  emulator=$(loading_emulator_of "$1" | cut -d' ' -f1)
  readelf -d "$(command -v "$emulator" || echo none)" 2>/dev/null | grep NEEDED >/dev/null ||
    fail "$emulator is needed, and not a static one. On Debian 12, run: apt-get install qemu-user"
}

build_players() {
  cargo build --locked --quiet --bin outpost-story --bin outpost-hub
  scenarios=$(cargo test --locked --quiet --no-run --workspace --test scenarios --message-format=json |
    sed -n 's/.*"target":{[^}]*"name":"scenarios".*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  built=${CARGO_TARGET_DIR:-target}/debug
}

# The players take the programs that lie beside them: lay_out NAME puts both into $folder.
lay_out() {
  printf '\n== %s: %s\n' "$1" "$(emulator_of "$1")"
  folder=$PWD/target/cross/players/$1
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$built/outpost-story" "$built/outpost-hub" "$folder"
  cp "$scenarios" "$folder/scenarios"
  local program
  for program in outpost outpost-hub; do
    [ -e "target/cross/$1/$program" ] || continue
    rm -f "$folder/$program"
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$(emulator_of "$1")" "$PWD/target/cross/$1/$program" >"$folder/$program"
    chmod +x "$folder/$program"
    echo "$("$folder/$program" --version) of $1"
  done
}

# Plays the scenarios of these names with them; a name of which there is none is a mistake: play NAME... [OPTION...]
play() {
  local name
  for name in "$@"; do
    [[ $name != -* ]] || continue
    "$folder/scenarios" "$name" --list | grep ': test$' >/dev/null || fail "No scenario is called $name."
  done
  "$folder/scenarios" "$@"
}

# Has it be another day for the gateway of $folder from its next start on: set_clock NAME DAY
set_clock() {
  local ahead
  ahead=$(($(date -ud "$2" +%s) - $(date +%s)))
  cc -shared -fPIC tests/src/later.c -ldl -o "$folder/later.so"
  printf '#!/bin/sh\nLD_PRELOAD=%s OUTPOST_TEST_AHEAD_SECONDS=%s exec %s %s "$@"\n' "$folder/later.so" "$ahead" \
    "$(loading_emulator_of "$1")" "$PWD/target/cross/$1/outpost" >"$folder/outpost"
  printf '\n== %s on %s: %s\n' "$1" "$2" "$(loading_emulator_of "$1")"
}
