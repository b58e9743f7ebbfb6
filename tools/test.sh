#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests: with CUDA when a toolkit is there (no GPU needed), and
# the unit and simt tests once more under the address and undefined-behaviour sanitizers.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_deps.sh --tests
preset=cpu
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then preset=developer; fi
jobs=$(nproc)

echo "== sanitizers =="
cmake --preset asan >/dev/null
cmake --build --preset asan -j "$jobs" --target small_tests
OMP_NUM_THREADS=1 ctest --preset asan -j "$jobs" -L 'unit|simt'

echo "== $preset =="
cmake --preset "$preset"
cmake --build --preset "$preset" -j "$jobs"
OMP_NUM_THREADS=1 ctest --preset "$preset" -j "$jobs"
