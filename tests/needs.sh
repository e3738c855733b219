# shellcheck shell=sh
# Sourced by the scripts: what building and testing needs beyond a Rust toolchain, installed where that is possible.

# SQLite and zstd are C and are built from their crates.
need_build_tools() {
  if ! command -v cargo >/dev/null 2>&1; then
    echo "A Rust toolchain is needed (1.85 or newer): see the Rust project's site, or your distribution's package rustc and cargo." >&2
    exit 1
  fi
  need cc "gcc or clang" gcc libc6-dev
}

# Tests look at TLS from outside, with programs that others made.
need_test_tools() {
  need_build_tools
  need openssl openssl openssl
  need curl curl curl
}

# A command; where it is not there, packages of Debian that bring it: need COMMAND WHAT PACKAGE...
need() {
  if command -v "$1" >/dev/null 2>&1; then return; fi
  what=$2
  shift 2
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "Something is missing: install $what with your system's package manager." >&2
    exit 1
  fi
  echo "Installing $what ..." >&2
  as_root=
  [ "$(id -u)" = 0 ] || as_root=sudo
  $as_root apt-get update
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
}

# A program that cargo builds from its registry: need_cargo_tool NAME. It is built once and kept in the clone's own target folder;
# nothing is right or wrong by its being there.
need_cargo_tool() {
  PATH="$PWD/target/tools/bin:$PATH"
  export PATH
  command -v "$1" >/dev/null 2>&1 || cargo install --quiet --locked "$1" --root target/tools
}
