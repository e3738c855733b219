#!/usr/bin/env bash
# Writes what is in each program, for each target, as a CycloneDX bill of materials, into target/cross/sbom: cross/sbom.sh [TARGET...|all]
# It is read from Cargo.lock: names, versions, licences and checksums of all crates that are built into the program.
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
mkdir -p target/cross/sbom
# The tool writes a file beside the manifest of every program of the workspace.
leftover() { find . -path ./target -prune -o -name '*_bin.cdx.json' -print; }
trap 'leftover | xargs -r rm -f' EXIT
for target in "${wanted[@]}"; do
  cargo cyclonedx --quiet --format json --spec-version 1.5 --describe binaries --no-build-deps \
    --target "$(triple_of "$target")" --manifest-path agent/Cargo.toml
  for program in outpost outpost-hub; do
    made=$(leftover | grep "/${program}_bin.cdx.json$")
    into=target/cross/sbom/$program-$target.cdx.json
    # Where the sources lay is nobody's business, and would make two bills differ.
    sed "s|path+file://$PWD|path+file:///outpost|g" "$made" >"$into"
    grep -q '"bomFormat"' "$into" || fail "$into is not a bill of materials"
    echo "$into: $(grep -c '"purl": "pkg:cargo/' "$into") crates"
  done
done
