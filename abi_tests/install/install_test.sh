#!/bin/sh
# abi_tests/install/install_test.sh: installs into a fresh prefix, moves it, and builds consumers from it alone.
# usage: install_test.sh CMAKE BUILD_DIR CC CXX FLAGS   (FLAGS: the sanitizers of this build, or empty)
set -eu
cmake=$1 build=$2 cc=$3 cxx=$4 flags=${5-}
here=$(cd "$(dirname "$0")" && pwd)
room=$(mktemp -d) && trap 'rm -rf "$room"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$cmake" --install "$build" --prefix "$room/first" --component rcore >"$room/log" || { cat "$room/log"; exit 1; }
mv "$room/first" "$room/moved"  # an installed tree can be moved
root=$room/moved
lib=$(dirname "$(find "$root" -name 'librcore.so.1')")
[ -n "$lib" ] || fail "no librcore.so.1"
for file in "$lib/librcore.so" "$lib/librcore.a" "$lib/pkgconfig/rcore.pc" "$lib/cmake/rcore/rcoreConfig.cmake" \
            "$root/include/rcore/rcore.h" "$root/include/rcore/rcore.hpp"; do
  [ -e "$file" ] || fail "$file is not installed"
done
find "$root" -name CHANGELOG.md | grep -q . || fail "the documents beside the header are not installed"
find "$root/include" -type f | grep -v -E '/rcore/(rcore\.(h|hpp)|detail/[a-z_]+\.hpp)$' &&
  fail "more headers than the two public ones and what rcore.hpp includes"
grep -o -E 'detail/[a-z_]+\.hpp' "$root/include/rcore/rcore.hpp" | sort -u >"$room/included"
(cd "$root/include/rcore" && ls detail/*.hpp) | sort | cmp - "$room/included" ||
  fail "rcore/detail has other files than rcore.hpp includes"
grep -r -i -l -E 'nlohmann|dlpack::|rcore_dlpack|tvm_ffi' "$root/include" "$lib/cmake" "$lib/pkgconfig" &&
  fail "a private dependency shows in what is installed"
grep -r -l "$build" "$root/include" "$lib/cmake" "$lib/pkgconfig" && fail "a path of the build tree is installed"

echo "== find_package: shared, static, C++"
"$cmake" -G Ninja -S "$here/consumer" -B "$room/consumer" -DCMAKE_PREFIX_PATH="$root" -DCMAKE_C_COMPILER="$cc" \
  -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_C_FLAGS="$flags" -DCMAKE_CXX_FLAGS="$flags" >"$room/log" 2>&1 &&
  "$cmake" --build "$room/consumer" >>"$room/log" 2>&1 || { cat "$room/log"; exit 1; }
for program in shared static cxx; do
  "$room/consumer/$program" || fail "$program exits with $?"
done
readelf -d "$room/consumer/static" | grep -q 'librcore' && fail "the static consumer needs librcore.so"
readelf -d "$room/consumer/shared" | grep -q 'librcore\.so\.1' || fail "the shared consumer does not need librcore.so.1"

if command -v pkg-config >/dev/null; then
  echo "== pkg-config: shared, static"
  export PKG_CONFIG_PATH=$lib/pkgconfig
  # shellcheck disable=SC2046
  $cc $flags -o "$room/by_pc" "$here/consumer/main.c" $(pkg-config --cflags --libs rcore)
  LD_LIBRARY_PATH=$lib "$room/by_pc" || fail "the pkg-config consumer exits with $?"
  mkdir "$room/archive" && cp "$lib/librcore.a" "$room/archive"
  private=$(pkg-config --static --libs rcore)
  # shellcheck disable=SC2046,SC2086
  $cc $flags -o "$room/by_pc_static" "$here/consumer/main.c" $(pkg-config --cflags rcore) -L"$room/archive" $private
  "$room/by_pc_static" || fail "the static pkg-config consumer exits with $?"
  [ "$(pkg-config --modversion rcore)" = "$("$room/by_pc_static" | awk '{print int($2/1000000)"."int($2/1000)%1000"."$2%1000}')" ] ||
    fail "rcore.pc has another version than the library"
else
  echo "pkg-config is not on this machine: rcore.pc is not tried"
fi
