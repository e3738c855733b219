# shellcheck shell=sh
# Sourced by the scripts: what building and testing needs beyond a Rust toolchain, installed where that is possible.

# SQLite and zstd are C and are built from their crates.
need_build_tools() {
  if ! command -v cargo >/dev/null 2>&1; then
    echo "A Rust toolchain is needed (1.85 or newer): see the Rust project's site, or your distribution's package rustc and cargo." >&2
    exit 1
  fi
  if command -v cc >/dev/null 2>&1; then return; fi
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "A C compiler is needed: install gcc or clang with your system's package manager." >&2
    exit 1
  fi
  echo "Installing a C compiler ..." >&2
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root apt-get update
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev
}
