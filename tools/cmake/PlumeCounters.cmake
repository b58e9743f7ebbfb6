# plume_count_kernels(sources...): compiles kernels so that kernels/simt/count_trace.cpp sees every access and
# every branch. Only the compiler's part of the sanitizers is used; their libraries must not be linked. What
# would tear a lane's accesses apart, or draw a loop or a branch of the source twice, is turned off; all build
# types count the same. For g++: clang reports branches only after it has unrolled loops and doubled paths.
function(plume_count_kernels)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    message(FATAL_ERROR "PLUME_COUNTERS wants g++")
  endif()
  set(flags -O2 -fsanitize=thread -fsanitize-coverage=trace-pc -g1 -fno-optimize-sibling-calls
    --param=tsan-instrument-func-entry-exit=0 -Wno-tsan -fno-thread-jumps -fno-split-paths -fno-tree-vectorize
    -fno-tree-slp-vectorize -fno-tree-tail-merge -fno-crossjumping -fno-unswitch-loops -fno-unroll-loops
    -fno-peel-loops -fno-tree-sra -fno-code-hoisting -fno-ipa-icf)
  # A precompiled header without line numbers does not fit.
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${flags}" SKIP_PRECOMPILE_HEADERS ON)
endfunction()
