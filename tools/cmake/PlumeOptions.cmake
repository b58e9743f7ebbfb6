# Warnings, sanitizers and the compiler cache.
find_program(CCACHE ccache)
if(CCACHE)
  # What it needs to know about precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()

option(PLUME_WERROR "Warnings are errors; off for compilers that nobody has tried yet" ON)
set(plume_werror "")
if(PLUME_WERROR)
  set(plume_werror -Werror)
endif()

# Every aarch64 processor has NEON, of which the compiler's default makes use.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(PLUME_ARCH "x86-64-v3" CACHE STRING "-march of host code; empty for the compiler's default")
else()
  set(PLUME_ARCH "" CACHE STRING "-march of host code; empty for the compiler's default")
endif()

function(plume_target_options target)
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers ${plume_werror}>
    $<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno -fno-trapping-math>
    $<$<CXX_COMPILER_ID:GNU>:$<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>>
    # Up to 512 MB the compiler collects no garbage: a sixth of the time of a file of tests.
    $<$<CXX_COMPILER_ID:GNU>:$<$<COMPILE_LANGUAGE:CXX>:--param=ggc-min-heapsize=524288>>)
  if(PLUME_ARCH)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-march=${PLUME_ARCH}>)
  endif()
  if(PLUME_SANITIZE)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${PLUME_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g1>
      # Accesses through bad pointers are the address sanitizer's, and a third of the kernels' compile time.
      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,object-size,pointer-overflow,vptr>
      # GCC 12 takes what the sanitizers add to the standard library's headers for reads of unset values.
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>)
    target_link_options(${target} PUBLIC -fsanitize=${PLUME_SANITIZE})
  endif()
endfunction()
