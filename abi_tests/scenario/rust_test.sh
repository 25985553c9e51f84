#!/bin/sh
# abi_tests/scenario/rust_test.sh: bindgen reads the header, rustc builds the scenario and bindgen's layout tests.
# usage: rust_test.sh HEADER LIBRARY_DIR. Exit 77 = no Rust here.
set -eu
header=$1 library=$2
here=$(cd "$(dirname "$0")" && pwd)
for tool in bindgen rustc; do
  command -v $tool >/dev/null || { echo "skipped: no $tool on this machine"; exit 77; }
done
room=$(mktemp -d) && trap 'rm -rf "$room"' EXIT
bindgen "$header" --allowlist-function 'rc_.*' --allowlist-type 'rc_.*' --allowlist-var 'RC_.*' -o "$room/bindings.rs"
functions=$(grep -o 'pub fn rc_' "$room/bindings.rs" | wc -l)  # without rustfmt all is one line
declared=$(grep -c -E '^RC_(FN|VOID_FN|EXPORT) ' "$header")
[ "$functions" -eq "$declared" ] || { echo "bindgen sees $functions functions, the header declares $declared"; exit 1; }
grep -q 'pub const RC_HEADER_VERSION *: *u32' "$room/bindings.rs" || { echo "bindgen lost RC_HEADER_VERSION"; exit 1; }
rustc --edition 2021 -A warnings --test -o "$room/layout" "$room/bindings.rs"
"$room/layout" -q
RCORE_BINDINGS=$room/bindings.rs rustc --edition 2021 -A warnings -L "$library" -l rcore -o "$room/scenario" "$here/scenario.rs"
LD_LIBRARY_PATH=$library "$room/scenario"
