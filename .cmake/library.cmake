# The shipped libraries and their install rules: librcore.so.1 (exports only rc_*), librcore.a, headers and docs beside
# them, a CMake package (rcore::rcore, rcore::rcore_static) and rcore.pc. No dependency shows in what is installed:
# DLPack and the JSON reader are compiled in, and the public header needs neither.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(rcore SHARED $<TARGET_OBJECTS:rcore_objects>)
add_library(rcore_static STATIC $<TARGET_OBJECTS:rcore_objects>)
add_library(rcore::rcore ALIAS rcore)
add_library(rcore::rcore_static ALIAS rcore_static)

# What the folders of src/ and kernels/ link for their own files, less what is headers only.
get_target_property(RCORE_LINKED rcore_objects LINK_LIBRARIES)
list(REMOVE_ITEM RCORE_LINKED nlohmann_json::nlohmann_json rcore_dlpack)
list(FILTER RCORE_LINKED EXCLUDE REGEX "^::@")  # CMake's marks of the folder that linked an entry
list(REMOVE_DUPLICATES RCORE_LINKED)

foreach(library rcore rcore_static)
  target_include_directories(${library} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_link_libraries(${library} PRIVATE ${RCORE_LINKED} ${CMAKE_DL_LIBS})
endforeach()

set(RCORE_EXPORT_LIST "${PROJECT_SOURCE_DIR}/src/rc.map")
# nodelete: a tensor's deleter and a thread's last error may be needed after the host's dlclose.
target_link_options(rcore PRIVATE
  "LINKER:--version-script=${RCORE_EXPORT_LIST}" LINKER:-z,nodelete LINKER:-z,relro LINKER:-z,now)
if(NOT RCORE_SANITIZE)
  target_link_options(rcore PRIVATE LINKER:-z,defs)  # sanitizers leave their run-time to the executable
endif()
set_target_properties(rcore PROPERTIES
  LINKER_LANGUAGE CXX SOVERSION 1 LINK_DEPENDS "${RCORE_EXPORT_LIST}" EXPORT_NAME rcore)
set_target_properties(rcore_static PROPERTIES
  LINKER_LANGUAGE CXX OUTPUT_NAME rcore EXPORT_NAME rcore_static)

# A C program that links the archive has no C++ driver to add the run-time.
target_link_libraries(rcore_static INTERFACE "$<$<LINK_LANGUAGE:C>:stdc++$<SEMICOLON>m>")

set(RCORE_PACKAGE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/rcore")
install(TARGETS rcore EXPORT rcore_targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT rcore NAMELINK_COMPONENT rcore)
install(TARGETS rcore_static EXPORT rcore_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT rcore)
install(DIRECTORY include/rcore DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT rcore
  FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp")
file(GLOB RCORE_DOCS CONFIGURE_DEPENDS include/rcore/*.md README.md LICENSE)
install(FILES ${RCORE_DOCS} DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT rcore)

install(EXPORT rcore_targets FILE rcoreTargets.cmake NAMESPACE rcore:: DESTINATION ${RCORE_PACKAGE_DIR}
  COMPONENT rcore)
configure_package_config_file(.cmake/rcoreConfig.cmake.in "${PROJECT_BINARY_DIR}/rcoreConfig.cmake"
  INSTALL_DESTINATION ${RCORE_PACKAGE_DIR} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break the ABI; the policy of the package says so.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/rcoreConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/rcoreConfig.cmake" "${PROJECT_BINARY_DIR}/rcoreConfigVersion.cmake"
  DESTINATION ${RCORE_PACKAGE_DIR} COMPONENT rcore)

# rcore.pc finds its prefix from its own place, so that an installed tree can be moved.
file(RELATIVE_PATH RCORE_PC_PREFIX "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" RCORE_PC_PREFIX "${RCORE_PC_PREFIX}")
set(RCORE_PC_PRIVATE "-lstdc++ -lm -lpthread -ldl")
foreach(entry IN LISTS RCORE_LINKED)
  if(entry MATCHES "^-l|\\.so|\\.a$")
    string(APPEND RCORE_PC_PRIVATE " ${entry}")
  elseif(entry MATCHES "^BLAS::|^OpenBLAS")
    string(APPEND RCORE_PC_PRIVATE " -lblas")
  endif()
endforeach()
configure_file(.cmake/rcore.pc.in "${PROJECT_BINARY_DIR}/rcore.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/rcore.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT rcore)
