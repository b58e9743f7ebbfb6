# plume_instrument_kernels(sources...): compiles kernels so that kernels/simt/race_detector.cpp sees every
# access. Only the compiler's part of the thread sanitizer is used; its library must not be linked.
function(plume_instrument_kernels)
  set(flags -fsanitize=thread -g)
  if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    list(APPEND flags "SHELL:-mllvm -tsan-instrument-atomics=0" "SHELL:-mllvm -tsan-instrument-func-entry-exit=0")
  else()
    list(APPEND flags --param=tsan-instrument-func-entry-exit=0 -Wno-tsan)
  endif()
  # A precompiled header of other options does not fit.
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${flags}" SKIP_PRECOMPILE_HEADERS ON)
endfunction()
