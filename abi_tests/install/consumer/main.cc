// abi_tests/install/consumer/main.cc: the same through rcore.hpp.
#include <rcore/rcore.hpp>

int main() {
  rcore::context context = rcore::context::create();
  return rcore::version() == RC_HEADER_VERSION && context.stats().regions_live == 0 ? 0 : 1;
}
