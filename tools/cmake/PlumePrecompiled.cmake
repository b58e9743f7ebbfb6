# Headers that are compiled once for many sources. Every source still names what it uses: the preset `tidy`
# builds without them.
set(PLUME_PRECOMPILED_STANDARD <algorithm> <functional> <map> <memory> <set> <string> <vector>)
set(PLUME_PRECOMPILED_ENGINE ${PLUME_PRECOMPILED_STANDARD} <cmath> <cstring>
  "${CMAKE_SOURCE_DIR}/engine/autograd/tape.h" "${CMAKE_SOURCE_DIR}/engine/core/kernel_slot.h"
  "${CMAKE_SOURCE_DIR}/engine/core/text.h")
set(PLUME_PRECOMPILED_TOOLS ${PLUME_PRECOMPILED_STANDARD} <filesystem> <fstream> <sstream> <variant>
  <fmt/format.h> <nlohmann/json.hpp>)
set(PLUME_PRECOMPILED_TESTS ${PLUME_PRECOMPILED_STANDARD} <gmock/gmock.h> <gtest/gtest.h>)
set(PLUME_PRECOMPILED_OPS_TESTS ${PLUME_PRECOMPILED_TESTS} "${CMAKE_SOURCE_DIR}/tests/support/check_op.h")
set(PLUME_PRECOMPILED_BENCH ${PLUME_PRECOMPILED_STANDARD} "${CMAKE_SOURCE_DIR}/bench/support/slot_bench.h")

# For what spends its time inside the library: optimised little or not at all (-O1, -O0), which compiles
# quickly, and a precompiled header, either of its own (HEADERS and a list) or another target's (REUSE and its
# name).
function(plume_quick_to_compile target optimization how)
  if(PLUME_SANITIZE)
    target_compile_options(${target} PRIVATE ${optimization})
  else()
    target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:${optimization}>)
  endif()
  # One code model for a static library and the programs that share its precompiled header.
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  if(how STREQUAL "REUSE")
    target_precompile_headers(${target} REUSE_FROM ${ARGN})
  else()
    target_precompile_headers(${target} PRIVATE ${ARGN})
  endif()
endfunction()

# Compiles a target's sources in batches of so many: most of what one of them includes and instantiates
# another does, too. So names in their anonymous namespaces must differ; the preset `tidy` builds each alone.
option(PLUME_TOGETHER "Compile small sources in batches" ON)
function(plume_compile_together target batch)
  set_target_properties(${target} PROPERTIES UNITY_BUILD ${PLUME_TOGETHER} UNITY_BUILD_BATCH_SIZE ${batch})
endfunction()
