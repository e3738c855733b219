# shellcheck shell=bash disable=SC2034
# Sourced by the scripts here: finds what can build for other machines, and says which way it took.
#
# C compiler, libc and linker are always zig's, through cargo-zigbuild: one tool for every target, and no cross packages. What
# differs is where Rust's standard library for the target comes from.

ZIG_VERSION=0.17.1
ZIGBUILD_VERSION=0.24.0
RUST_VERSION_MIN=85
# The first in which RUST_LIBC_UNSTABLE_MUSL_V1_2_3 gives all of the types that musl has.
LIBC_VERSION_MIN=0.2.180
toolchain=${OUTPOST_TOOLCHAIN:-$PWD/target/toolchain}

fail() {
  printf '%s\n' "$@" >&2
  exit 1
}

# The Rust triple of one of our names.
triple_of() {
  case "$1" in
  aarch64) echo aarch64-unknown-linux-musl ;;
  armv7) echo armv7-unknown-linux-musleabihf ;;
  armv6) echo arm-unknown-linux-musleabihf ;;
  amd64) echo x86_64-unknown-linux-musl ;;
  *) fail "no such target: $1. There are aarch64, armv7, armv6, amd64 and all." ;;
  esac
}

# Whether a triple is of a machine with 32 bits. There Rust's time has 32 bits, too, and ends in 2038, unless it is built otherwise.
is_32_bit() { case "$1" in arm*) ;; *) return 1 ;; esac }

# zig and cargo-zigbuild: those of the machine if it has both, else from PyPI into a folder of their own.
find_zig() {
  if command -v cargo-zigbuild >/dev/null && { command -v zig >/dev/null || python3 -m ziglang version >/dev/null 2>&1; }; then
    echo "zig: $(command -v cargo-zigbuild) of this machine"
    return
  fi
  if [ ! -x "$toolchain/zig/bin/cargo-zigbuild" ]; then
    python3 -m venv "$toolchain/zig" ||
      fail "There is no zig, and Python cannot make a folder for it. Run: apt-get install python3-venv"
    "$toolchain/zig/bin/pip" install --quiet "ziglang==$ZIG_VERSION" "cargo-zigbuild==$ZIGBUILD_VERSION" ||
      fail "There is no zig. Run where PyPI is reached: pip install ziglang==$ZIG_VERSION cargo-zigbuild==$ZIGBUILD_VERSION"
  fi
  PATH="$toolchain/zig/bin:$PATH"
  echo "zig: $ZIG_VERSION in $toolchain/zig"
}

# Sets RUSTC where it is not the one on the path, and std_flags where the standard library is to be built, too.
find_rust() {
  triple=$1 std_flags=
  command -v cargo >/dev/null || fail "There is no cargo. On Debian 12, run: apt-get install cargo-web"
  sysroot=
  if command -v rustc >/dev/null; then sysroot=$(rustc --print sysroot); fi
  # Where that is a question, a standard library that is ready has the time that ends.
  if [ -n "$sysroot" ] && [ -d "$sysroot/lib/rustlib/$triple/lib" ] && ! is_32_bit "$triple"; then
    echo "rust: $(rustc --version), with its own standard library for $triple"
    return
  fi
  if [ -n "$sysroot" ] && [ -f "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] && has_long_time "$sysroot"; then
    echo "rust: $(rustc --version); the standard library is built from its source"
    build_std
    return
  fi
  unpack_debian_rust
  RUSTC=$toolchain/rust/usr/bin/rustc
  sysroot=$toolchain/rust/usr
  LD_LIBRARY_PATH=$toolchain/rust/usr/lib/$(uname -m)-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export RUSTC LD_LIBRARY_PATH
  has_long_time "$sysroot" ||
    fail "With Debian's $("$RUSTC" --version) the clock would end in 2038 (has_long_time in cross/toolchain.sh). Run: rustup component add rust-src"
  echo "rust: Debian's $("$RUSTC" --version), unpacked; the standard library is built from its source"
  build_std
}

# Whether the source of the standard library in a sysroot can be built with seconds of 64 bits, where that is a question, and
# waits as cross/futex.c thinks it does.
has_long_time() {
  is_32_bit "$triple" || return 0
  local library=$1/lib/rustlib/src/rust/library libc
  libc=$(sed -n '/^name = "libc"$/{n;s/^version = "\(.*\)"$/\1/p}' "$library/Cargo.lock")
  printf '%s\n' "$LIBC_VERSION_MIN" "$libc" | sort --check=quiet --version-sort &&
    grep -q 't as \*const libc::timespec' "$library/std/src/sys/pal/unix/futex.rs"
}

build_std() {
  std_flags=-Zbuild-std=std,panic_abort
  # Building the standard library is not offered to stable compilers otherwise.
  export RUSTC_BOOTSTRAP=1
}

# Debian's compiler with its source, not installed but unpacked: whatever compiler the machine has stays as it is.
unpack_debian_rust() {
  if [ -e "$toolchain/rust/complete" ]; then return; fi
  local wish="rustup target add $triple, or on Debian: apt-get update"
  ! is_32_bit "$triple" || wish=${wish/target add $triple/component add rust-src}
  command -v apt-get >/dev/null || fail "There is no standard library for $triple. Run: $wish"
  mkdir -p "$toolchain"
  # Lists of packages may be missing or old.
  fetch_debian_rust || { apt-get update -q >>"$toolchain/apt.log" 2>&1 && fetch_debian_rust; } ||
    fail "There is no standard library for $triple, and Debian's cannot be fetched ($toolchain/apt.log). Run: $wish"
  touch "$toolchain/rust/complete"
}

fetch_debian_rust() {
  local version short llvm package
  version=$(apt-cache madison rust-web-src | awk '{print $3}' | sort -V | tail -1)
  [ "$(printf '%s' "$version" | cut -d. -f2)" -ge "$RUST_VERSION_MIN" ] 2>/dev/null || return 1
  short=$(printf '%s' "$version" | cut -d. -f1-2)
  llvm=$(apt-cache show "libstd-rust-web-$short=$version" | grep -o 'libllvm[0-9]*' | head -1)
  rm -rf "$toolchain/rust" "$toolchain/debs"
  mkdir -p "$toolchain/rust" "$toolchain/debs"
  echo "fetching Debian's Rust $version ..."
  (cd "$toolchain/debs" && apt-get download -q "rustc-web=$version" "rust-web-src=$version" "libstd-rust-web-dev=$version" \
    "libstd-rust-web-$short=$version" "$llvm") >>"$toolchain/apt.log" 2>&1 || return 1
  for package in "$toolchain"/debs/*.deb; do dpkg -x "$package" "$toolchain/rust" || return 1; done
  rm -rf "$toolchain/debs" "$toolchain/rust/usr/share"
}
