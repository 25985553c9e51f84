# rcore_test and rcore_bench: one line per test or benchmark that sees the library's inside.
# Both link every object of the library without its export list; ABI tests do not use them.
add_library(rcore_inside STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:rcore_objects>)
target_include_directories(rcore_inside PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
target_link_libraries(rcore_inside PUBLIC rcore_dlpack Threads::Threads nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})

# Sanitizer trees are built from nothing again and again: they parse the big headers once. So do all tests; the
# library's own files, which a release shows to include what they use, do not.
# GCC reads all of such a header wherever it is used: only clang's has JSON.
set(json_header $<$<CXX_COMPILER_ID:Clang>:<nlohmann/json.hpp$<ANGLE-R>>)
if(RCORE_SANITIZE)
  target_precompile_headers(rcore_objects PRIVATE
    <algorithm> <deque> <functional> <memory> <mutex> <optional> <string> <unordered_map> <vector> ${json_header})
endif()
if(RCORE_BUILD_TESTS)
  file(WRITE "${PROJECT_BINARY_DIR}/test_headers.cc" "int main() {}\n")
  add_executable(rcore_test_headers EXCLUDE_FROM_ALL "${PROJECT_BINARY_DIR}/test_headers.cc")
  target_link_libraries(rcore_test_headers PRIVATE rcore_inside GTest::gtest)
  target_precompile_headers(rcore_test_headers PRIVATE
    <gtest/gtest.h> <algorithm> <deque> <functional> <map> <memory> <mutex> <string> <thread> <unordered_map> <vector>
    ${json_header})
  # A third off their build; what they test is optimised as ever.
  target_compile_options(rcore_test_headers PRIVATE $<$<CONFIG:Release>:-O1>)
endif()

# rcore_test(NAME file.cc... [LABELS l...] [LIBRARIES t...])
function(rcore_test name)
  cmake_parse_arguments(ARG "" "" "LABELS;LIBRARIES" ${ARGN})
  if(NOT RCORE_BUILD_TESTS)
    return()
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE rcore_inside GTest::gtest GTest::gtest_main ${ARG_LIBRARIES})
  target_precompile_headers(${name} REUSE_FROM rcore_test_headers)
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_PREFIX "${name}:"
    PROPERTIES LABELS "unit;${ARG_LABELS}" TIMEOUT 300)
endfunction()

# rcore_bench(NAME file.cc... [LIBRARIES t...])
function(rcore_bench name)
  cmake_parse_arguments(ARG "" "" "LIBRARIES" ${ARGN})
  if(NOT RCORE_BUILD_BENCHMARKS)
    return()
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE rcore_inside benchmark::benchmark ${ARG_LIBRARIES})
endfunction()
