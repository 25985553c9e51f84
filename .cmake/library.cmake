# The shipped libraries and their install rules: librcore.so.1 (exports only rc_*), librcore.a.
add_library(rcore SHARED $<TARGET_OBJECTS:rcore_objects>)
add_library(rcore_static STATIC $<TARGET_OBJECTS:rcore_objects>)
set_target_properties(rcore_static PROPERTIES OUTPUT_NAME rcore EXPORT_NAME rcore_static)
