#!/usr/bin/env bash
# Writes what is in each program, for each target, as a CycloneDX bill of materials, into target/cross/sbom: cross/sbom.sh [TARGET...|all]
# It is read from Cargo.lock: names, versions, licences and checksums of all crates that are built into the program. What a build
# script compiles into it is no dependency of the program for Cargo, and is added: crates that hold the source of something (they end
# in -src), SQLite, which is in one of them, and what the compilers bring, Rust's standard library and zig's C library.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/toolchain.sh
wanted=("${@:-all}")
[ "${wanted[0]}" != all ] || wanted=(aarch64 armv7 armv6 amd64)
if ! command -v cargo-cyclonedx >/dev/null && [ ! -x target/tools/bin/cargo-cyclonedx ]; then
  cargo install --quiet --locked cargo-cyclonedx --root target/tools ||
    fail "cargo-cyclonedx is needed. Run: cargo install --locked cargo-cyclonedx"
fi
export PATH="$PWD/target/tools/bin:$PATH"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
command -v jq >/dev/null || fail "jq is needed. Run: apt-get install jq"
mkdir -p target/cross/sbom
# The tool writes a file beside the manifest of every program of the workspace.
leftover() { find . -path ./target -prune -o -name '*_bin.cdx.json' -print; }
trap 'leftover | xargs -r rm -f' EXIT
package_of() { [ "$1" = outpost ] && echo agent || echo server-stub; }

# The crates that hold what build scripts compile into a program, as components.
sources_in() {
  local crate version licence checksum
  cargo tree --locked --package "$(package_of "$1")" --target "$(triple_of "$2")" --edges normal,build --prefix none \
    --format '{p}|{l}' | sed -n 's/^\([a-z0-9_-]*-src\) v\([^ |]*\)[^|]*|\(.*\)$/\1 \2 \3/p' | sort -u |
    while read -r crate version licence; do
      checksum=$(grep -A3 "^name = \"$crate\"$" Cargo.lock | sed -n 's/^checksum = "\(.*\)"/\1/p')
      jq --null-input --arg name "$crate" --arg version "$version" --arg licence "$licence" --arg sum "$checksum" '{
        type: "library", name: $name, version: $version, scope: "required",
        hashes: [{alg: "SHA-256", content: $sum}], licenses: [{expression: $licence}],
        purl: "pkg:cargo/\($name)@\($version | @uri)", "bom-ref": "pkg:cargo/\($name)@\($version | @uri)"
      }'
    done
}

# The compilers that cross/build.sh takes for a target.
rust_version() { (find_rust "$(triple_of "$1")" >/dev/null && "${RUSTC:-rustc}" --version | cut -d' ' -f2); }
zig_version() {
  if command -v cargo-zigbuild >/dev/null; then zig version 2>/dev/null || python3 -m ziglang version 2>/dev/null && return; fi
  echo "$ZIG_VERSION"
}

# What is in those crates under a name of its own, and what is no crate: by these names weaknesses are looked up.
others_in() {
  local crate=$1 sqlite ciphers rust zig
  sqlite=$(sed -n 's/.*-sqlite-\([0-9.]*\)$/\1/p' <<<"$crate")
  ciphers=$(sed -n 's/.*+sqlite3mc-\([0-9.]*\)-.*/\1/p' <<<"$crate")
  [ -n "$sqlite" ] && [ -n "$ciphers" ] || fail "the version of sqlite3mc-src does not say which SQLite it holds: $crate"
  rust=$(rust_version "$2") zig=$(zig_version)
  jq --null-input --arg sqlite "$sqlite" --arg ciphers "$ciphers" --arg rust "$rust" --arg zig "$zig" '
    def component($name; $version; $licence): {
      type: "library", name: $name, version: $version, scope: "required", licenses: [{expression: $licence}],
      purl: "pkg:generic/\($name)@\($version)", "bom-ref": "pkg:generic/\($name)@\($version)"
    };
    component("sqlite"; $sqlite; "blessing") + {cpe: "cpe:2.3:a:sqlite:sqlite:\($sqlite):*:*:*:*:*:*:*"},
    component("sqlite3multipleciphers"; $ciphers; "MIT"),
    component("rust-std"; $rust; "MIT OR Apache-2.0") + {cpe: "cpe:2.3:a:rust-lang:rust:\($rust):*:*:*:*:*:*:*"},
    component("zig"; $zig; "MIT") + {description: "its C library, musl, and its compiler-rt, as this version of zig has them"}'
}

# Adds them to the bill of a program, and looks whether the program, if it was built, has that SQLite in it.
add_sources() {
  local program=$1 target=$2 bill=$3 sources others sqlite built=target/cross/$2/$1
  sources=$(sources_in "$program" "$target")
  others=$(others_in "$(jq --raw-output 'select(.name == "sqlite3mc-src").version' <<<"$sources")" "$target")
  jq --slurpfile more <(printf '%s\n%s\n' "$sources" "$others") '
    ($more | map(select(.name == "sqlite3mc-src")["bom-ref"])) as $by
    | ($more | map(select(.name == "sqlite" or .name == "sqlite3multipleciphers")["bom-ref"])) as $sqlite
    | .components += $more
    | .dependencies += [{ref: $by[0], dependsOn: $sqlite}]
    | .dependencies |= map(if (.ref | test("/sqlite#|[#/]sqlite@0")) then .dependsOn = ((.dependsOn // []) + $by) else . end)
  ' "$bill" >"$bill.part"
  mv "$bill.part" "$bill"
  sqlite=$(jq --raw-output '.components[] | select(.name == "sqlite" and .cpe).version' "$bill")
  [ ! -e "$built" ] || grep --quiet --text --fixed-strings "$sqlite" "$built" || fail "$built does not say that its SQLite is $sqlite"
}

for target in "${wanted[@]}"; do
  cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps \
    --target "$(triple_of "$target")" --manifest-path agent/Cargo.toml
  for program in outpost outpost-hub; do
    made=$(leftover | grep "/${program}_bin.cdx.json$")
    into=target/cross/sbom/$program-$target.cdx.json
    # Where the sources lay is nobody's business, and would make two bills differ.
    sed "s|path+file://$PWD|path+file:///outpost|g" "$made" >"$into"
    grep -q '"bomFormat"' "$into" || fail "$into is not a bill of materials"
    add_sources "$program" "$target" "$into"
    echo "$into: $(grep -c '"purl": "pkg:cargo/' "$into") crates"
  done
done
