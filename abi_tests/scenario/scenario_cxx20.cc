// abi_tests/scenario/scenario_cxx20.cc: the scenario as C++20.
#include "scenario.c"
