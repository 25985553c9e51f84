// abi_tests/scenario/scenario_cxx11.cc: the scenario as C++11.
#include "scenario.c"
