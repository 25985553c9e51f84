# rcore_test and rcore_bench: one line per test or benchmark that sees the library's inside.
# Both link every object of the library without its export list; ABI tests do not use them.
add_library(rcore_inside STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:rcore_objects>)
target_include_directories(rcore_inside PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}")
target_link_libraries(rcore_inside PUBLIC rcore_dlpack Threads::Threads nlohmann_json::nlohmann_json ${CMAKE_DL_LIBS})

# rcore_test(NAME file.cc... [LABELS l...] [LIBRARIES t...])
function(rcore_test name)
  cmake_parse_arguments(ARG "" "" "LABELS;LIBRARIES" ${ARGN})
  if(NOT RCORE_BUILD_TESTS)
    return()
  endif()
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name} PRIVATE rcore_inside GTest::gtest GTest::gtest_main ${ARG_LIBRARIES})
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
