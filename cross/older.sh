#!/usr/bin/env bash
# Builds the gateway for the older boards, ARMv7 and ARMv6, and plays cross/smoke.sh with it, if what it is built from has changed
# since that was last done: cross/older.sh
# That takes half an hour, and what differs between boards is not in our code but in compilers, libraries and scripts. So these
# have a sum, which stands in cross/older.played as it was when all had gone well; commit that file when this has written it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
sum=$(
  {
    git ls-files -s Cargo.lock Cargo.toml '*/build.rs' sqlite cross/build.sh cross/toolchain.sh cross/futex.c cross/emulated.sh cross/smoke.sh
    # What a package holds beside the program makes no difference to that.
    git ls-files '*/Cargo.toml' | while read -r manifest; do awk '/^\[/ { is_of_package = $0 == "[package.metadata.deb]" } !is_of_package' "$manifest"; done
  } | sha256sum | cut -d' ' -f1
)
if [ "$(cat cross/older.played 2>/dev/null)" = "$sum" ]; then
  echo "armv7 and armv6 were played with the same libraries, compilers and scripts: not again"
  exit
fi
cross/build.sh armv7 armv6
cross/smoke.sh armv7 armv6
echo "$sum" >cross/older.played
echo "cross/older.played is new; commit it"
