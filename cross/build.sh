#!/usr/bin/env bash
# Builds the programs for the boxes they run on, each one static file: cross/build.sh [TARGET[/PROGRAM]...|all]
# TARGET is aarch64, armv7, armv6 or amd64; with all, which is what it does when nothing is named, the packages are made as well.
# The files are put into target/cross/TARGET/ and listed at the end. The same commit and the same tools (Rust and zig of the same
# versions, found in the same way) give the same bytes in any folder.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
wanted=("${@:-all}") packages=
[ "${wanted[0]}" != all ] || wanted=(aarch64 armv7 armv6 amd64) packages=all

# The hub is for machines that are larger than a gateway.
programs_of() {
  case "$1" in
  */outpost | */outpost-hub) echo "${1#*/}" ;;
  */*) fail "no such program: ${1#*/}. There are outpost and outpost-hub." ;;
  aarch64 | amd64) echo outpost outpost-hub ;;
  *) echo outpost ;;
  esac
}

package_of() { [ "$1" = outpost ] && echo agent || echo server-stub; }

for one in "${wanted[@]}"; do
  triple_of "${one%%/*}" >/dev/null
  programs_of "$one" >/dev/null
done
command -v readelf >/dev/null || fail "readelf is needed for the table. Run: apt-get install binutils"
# Both are part of what is built: nothing may depend on the day, nor on who builds.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0 CARGO_TARGET_DIR="$PWD/target/cross/build" TZ=UTC LC_ALL=C
unset RUSTC_WRAPPER
crates=${CARGO_HOME:-$HOME/.cargo}/registry/src
find_zig

# Folders of this machine are not to be in the programs.
set_flags() {
  local maps=("$PWD=/outpost" "$crates=/crates" "$sysroot=/rust") map rust='' c=''
  for map in "${maps[@]}"; do
    rust="$rust --remap-path-prefix=$map"
    c="$c -ffile-prefix-map=$map"
  done
  # zig brings the C library; Rust's own copy, where there is one, would come twice. Nothing in the programs unwinds, so there are
  # no tables for it: a tenth of a program.
  export RUSTFLAGS="-Clink-self-contained=no -Cforce-unwind-tables=no$rust"
  export "CFLAGS_${1//-/_}=-fno-unwind-tables -fno-asynchronous-unwind-tables$c"
  # Seconds of 64 bits, as musl has them: with Rust's own, the first look at the clock after 2038-01-19 ends the program. The
  # variable is for Rust's libc before 0.2.190, which the standard library has, and the cfg for later ones.
  if is_32_bit "$1"; then
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
    RUSTFLAGS="$RUSTFLAGS --cfg=libc_unstable_time64 -Clink-arg=cross/futex.c -Clink-arg=-Wl,--wrap=syscall"
  fi
}

build() {
  local name=${1%%/*} triple program
  triple=$(triple_of "$name")
  printf '\n== %s (%s)\n' "$1" "$triple"
  find_rust "$triple"
  set_flags "$triple"
  mkdir -p "target/cross/$name"
  # One after the other: built together, each would get the features that the other asks for.
  for program in $(programs_of "$1"); do
    cargo zigbuild ${std_flags:+"$std_flags"} --locked --release --target "$triple" -p "$(package_of "$program")" --bin "$program"
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
  local one program file libraries glibc
  printf '\n%-20s %9s  %-9s %-6s %s\n' program bytes libraries glibc sha256
  for one in "${wanted[@]}"; do
    for program in $(programs_of "$one"); do
      file=target/cross/${one%%/*}/$program
      libraries=$(readelf -d "$file" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | paste -sd,)
      glibc=$(readelf -V "$file" 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -1 || true)
      printf '%-20s %9s  %-9s %-6s %s\n' "${one%%/*}/$program" "$(stat -c %s "$file")" "${libraries:-none}" \
        "${glibc:-none}" "$(sha256sum "$file" | cut -d' ' -f1)"
    done
  done
}

# What is set for one target is not to be there for the next.
for one in "${wanted[@]}"; do (build "$one"); done
[ -z "$packages" ] || env -u CARGO_TARGET_DIR OUTPOST_BUILT=1 cross/package.sh "$packages"
table
