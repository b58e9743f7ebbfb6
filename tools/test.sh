#!/usr/bin/env bash
# Installs what is missing, builds, and runs all tests: with CUDA when a toolkit is there (no GPU needed), and
# the unit and simt tests once more under the address and undefined-behaviour sanitizers.
#
#   tools/test.sh
#   tools/test.sh --counters
#   tools/test.sh --aarch64 [CTEST ARGUMENTS ...]
#
# --counters only builds and runs what holds the kernels to their gates: what they ask of memory and, with nvcc
# and nvdisasm, their machine code (kernels/README.md).
# --aarch64 cross-builds everything for 64-bit ARM and runs the unit and simt tests under qemu-user: it shows
# that nothing depends on x86, not how fast it is. The libraries for it come from Debian into
# build/aarch64-deps; oneDNN, MPI, libjpeg-turbo and libspng are left out, so that the plain paths run.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)

test_aarch64() {
  tools/install_deps.sh --aarch64
  mkdir -p build
  [ -e build/aarch64-deps/.bundle ] ||
    tools/bundle_deps.sh --out build/aarch64-deps --arch arm64 --without-onednn
  cmake --preset aarch64 >/dev/null
  cmake --build --preset aarch64 -j "$jobs"
  PLUME_EMULATED=1 OMP_NUM_THREADS=1 ctest --preset aarch64 -j "$jobs" -L 'unit|simt' "$@"
}

test_counters() {
  tools/install_deps.sh --tests
  cmake --preset cpu >/dev/null
  cmake --build --preset cpu -j "$jobs" --target profile tools_tests kernel_counts
  OMP_NUM_THREADS=1 ctest --preset cpu -j "$jobs" \
    -R '^(kernel_gates_test|prediction_test|sampling_test|ladder_test|machine_code_test|kernel_counts)$'
}

case "${1:-}" in
  "") ;;
  --counters) test_counters; exit ;;
  --aarch64) shift; test_aarch64 "$@"; exit ;;
  -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "test: unknown flag '$1'; --counters, --aarch64" >&2; exit 2 ;;
esac

tools/install_deps.sh --tests
preset=cpu
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then preset=developer; fi

echo "== sanitizers =="
cmake --preset asan >/dev/null
cmake --build --preset asan -j "$jobs" --target small_tests
OMP_NUM_THREADS=1 ctest --preset asan -j "$jobs" -L 'unit|simt'

echo "== $preset =="
cmake --preset "$preset"
cmake --build --preset "$preset" -j "$jobs"
OMP_NUM_THREADS=1 ctest --preset "$preset" -j "$jobs"
