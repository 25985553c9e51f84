// src/testing/effort.h: how many rounds a random test takes.
#pragma once

namespace rc::testing {

// All of them where code is optimised; a tenth where it is not, as under sanitizers, which see in
// the first rounds what they would see in the last.
constexpr int rounds(int all) {
#ifdef __OPTIMIZE__
  return all;
#else
  return all < 10 ? all : all / 10;
#endif
}

}  // namespace rc::testing
