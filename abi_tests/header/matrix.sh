#!/bin/sh
# abi_tests/header/matrix.sh: compiles the public headers under every language version that one compiler knows.
# usage: matrix.sh COMPILER c|c++|nvcc INCLUDE_DIR DLPACK_DIR. Exit 77 = this compiler is not here.
set -u
compiler=$1 language=$2 include=$3 dlpack=$4
command -v "$compiler" >/dev/null || { echo "skipped: no $compiler on this machine"; exit 77; }
room=$(mktemp -d) && trap 'rm -rf "$room"' EXIT
uses='int rc_matrix_use(void); int rc_matrix_use(void) {
  rc_context_desc c = rc_context_desc_init(); rc_region_desc r = rc_region_desc_init(); rc_save s = rc_save_init();
  return (int)(c.head.struct_size + r.head.struct_size + s.head.struct_size + (RC_REGION_MAY_PASS & 1)); }'
# Each line: what to include, in order. D = dlpack.h, R = rcore.h.
orders='R RR DR RD DRD'
case $language in
  c)    standards='c99 c11 c17 c2x gnu99 gnu17' extension=c ;;
  c++)  standards='c++11 c++14 c++17 c++20 c++2b gnu++17' extension=cc ;;
  nvcc) standards='c++14 c++17 c++20' extension=cu ;;
esac
strict='-fsyntax-only -pedantic-errors -Wall -Wextra -Wpadded -Wshadow -Wconversion -Wundef -Werror'
[ "$language" = c ] && strict="$strict -Wstrict-prototypes -Wmissing-prototypes"
[ "$language" = c++ ] && strict="$strict -Wnon-virtual-dtor -Wold-style-cast -Wno-error=old-style-cast"
done=0 failed=0
compile() {  # standard, extra options, file
  if [ "$language" = nvcc ]; then
    "$compiler" -std="$1" $2 -c -o "$room/out.o" -I"$include" -I"$dlpack" -Xcompiler -Wall,-Wextra -Werror all-warnings "$3"
  else
    "$compiler" -std="$1" $strict $2 -I"$include" -isystem "$dlpack" "$3"
  fi >"$room/log" 2>&1
  if [ $? -eq 0 ]; then done=$((done + 1)); else
    # A standard that the compiler does not have yet is no failure of the header.
    if grep -q -e "unrecognized command" -e "invalid value" -e "is not defined for option 'std'" "$room/log"; then
      echo "not known to $compiler: $1"
    else
      failed=$((failed + 1)); echo "FAILED: $compiler -std=$1 $2 $(basename "$3")"; cat "$room/log"
    fi
  fi
}
for order in $orders; do
  file=$room/$order.$extension
  echo "$order" | sed 's/D/#include <dlpack\/dlpack.h>\n/g; s/R/#include <rcore\/rcore.h>\n/g' >"$file"
  echo "$uses" >>"$file"
  for standard in $standards; do compile "$standard" "" "$file"; done
done
for standard in $standards; do
  compile "$standard" "-DRC_TARGET_VERSION=1000u" "$room/R.$extension"
done
# The C++ wrapper needs C++17; nothing before or after it but itself.
if [ "$language" != c ]; then
  printf '#include <rcore/rcore.hpp>\n#include <rcore/rcore.hpp>\n#include <rcore/rcore.h>\n' >"$room/hpp.$extension"
  strict=$(echo "$strict" | sed 's/-Wpadded//; s/-Wold-style-cast -Wno-error=old-style-cast//')
  for standard in c++17 c++20 c++2b; do
    case " $standards " in *" $standard "*) compile "$standard" "" "$room/hpp.$extension" ;; esac
  done
fi
echo "$done compiled, $failed failed"
[ "$failed" -eq 0 ] && [ "$done" -gt 10 ]
