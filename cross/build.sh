#!/usr/bin/env bash
# Builds the programs for the boxes they run on, each one static file: cross/build.sh [aarch64|armv7|armv6|amd64|all]
# The files are put into target/cross/NAME/ and listed at the end. The same commit and tools give the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
case "$#" in
0) wanted=(all) ;;
*) wanted=("$@") ;;
esac
[ "${wanted[0]}" != all ] || wanted=(aarch64 armv7 armv6 amd64)
for name in "${wanted[@]}"; do triple_of "$name" >/dev/null; done

command -v readelf >/dev/null || fail "readelf is needed for the table. Run: apt-get install binutils"
# Both are part of what is built: nothing may depend on the day, nor on who builds.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$PWD/target/cross/build" TZ=UTC LC_ALL=C
unset RUSTC_WRAPPER
crates=${CARGO_HOME:-$HOME/.cargo}/registry/src
find_zig

# Folders of this machine are not to be in the programs.
set_flags() {
  local maps=("$PWD=/outpost" "$crates=/crates" "$sysroot=/rust") map rust= c=
  for map in "${maps[@]}"; do
    rust="$rust --remap-path-prefix=$map"
    c="$c -ffile-prefix-map=$map"
  done
  # zig brings the C library; Rust's own copy, where there is one, would come twice.
  export RUSTFLAGS="-Clink-self-contained=no$rust"
  export "CFLAGS_${1//-/_}=$c"
}

build() {
  local name=$1 triple program package
  triple=$(triple_of "$name")
  printf '\n== %s (%s)\n' "$name" "$triple"
  find_rust "$triple"
  set_flags "$triple"
  mkdir -p "target/cross/$name"
  # One after the other: built together, each would get the features that the other asks for.
  for program in outpost outpost-hub; do
    case "$program:$name" in
    outpost:*) package=agent ;;
    outpost-hub:aarch64 | outpost-hub:amd64) package=server-stub ;;
    *) continue ;;
    esac
    cargo zigbuild ${std_flags:+"$std_flags"} --locked --release --target "$triple" -p "$package" --bin "$program"
    cp "$CARGO_TARGET_DIR/$triple/release/$program" "target/cross/$name/$program"
    check "$name" "target/cross/$name/$program"
  done
}

# A Pi Zero stops at the first instruction that it does not know, so the file must not even claim to need more.
check() {
  local cpu
  if [ "$1" = armv6 ]; then
    cpu=$(readelf -A "$2" | sed -n 's/.*Tag_CPU_arch: //p')
    case "$cpu" in v6 | v6K | v6KZ) ;; *) fail "$2 is for $cpu, not for ARMv6" ;; esac
  fi
}

table() {
  local file libraries glibc
  printf '\n%-28s %10s  %-10s %-6s %s\n' program bytes libraries glibc sha256
  for name in "${wanted[@]}"; do
    for file in "target/cross/$name"/outpost*; do
      libraries=$(readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | paste -sd,)
      glibc=$(readelf -V "$file" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -1 || true)
      printf '%-28s %10s  %-10s %-6s %s\n' "${file#target/cross/}" "$(stat -c %s "$file")" "${libraries:-none}" \
        "${glibc:-none}" "$(sha256sum "$file" | cut -d' ' -f1)"
    done
  done
}

for name in "${wanted[@]}"; do build "$name"; done
table
