#!/usr/bin/env bash
# Compiles every kernel for every architecture that plume is meant for, without linking or running anything,
# and the plug-in's host files against the toolkit's headers: what does not compile, or spills registers, is
# named.
#
# usage: tools/compile_all_architectures.sh [80 86 ...]     (default: 80 86 87 89 90 120; 87 is Jetson Orin)
#   NVCC=...   compiler, of CUDA 12.8 or later for sm_120    JOBS=...   compilations at once
#   CXX=...    host compiler    INCLUDES="-I..."   headers of cuDNN and cuBLASLt where they lie elsewhere
# Exit status: 0; 1 when a kernel spills; 2 when something does not compile or there is no nvcc.
set -u -o pipefail
cd "$(dirname "$0")/.."
architectures=("$@")
[ ${#architectures[@]} -gt 0 ] || architectures=(80 86 87 89 90 120)
export NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
command -v "$NVCC" >/dev/null || { echo "compile_all_architectures: no nvcc found (set NVCC)" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
worst=0
note() { [ "$1" -le "$worst" ] || worst=$1; }

"$NVCC" --version | tail -n 1
for architecture in "${architectures[@]}"; do
  started=$SECONDS
  ARCHS=$architecture tools/kernel_report.sh > "$work/report" 2> "$work/errors"
  code=$?
  note $code
  if [ $code = 2 ]; then
    echo "sm_$architecture: does not compile, $((SECONDS - started)) s"
    head -n 20 "$work/errors" | cut -c 1-300
    continue
  fi
  # Rows are "kernel | arch | registers | shared | stack | stores/loads".
  awk -F ' *[|] *' -v name="sm_$architecture" -v seconds=$((SECONDS - started)) '
    NR > 1 && NF == 6 {
      ++kernels
      if ($3 > most) { most = $3; who = $1 }
      split($6, spill, "/")
      if (spill[1] + spill[2] > 0) { ++spilled; if (spilled <= 5) names = names "\n  spills: " $1 " (" $6 " bytes)" }
    }
    END { printf "%s: %d kernels, %d with spills, at most %d registers (%s), %d s%s\n", name, kernels, spilled, most, who,
          seconds, names }' "$work/report"
done

# The host's side: the headers differ from toolkit to toolkit, the architecture does not matter.
toolkit=$(dirname "$(dirname "$(realpath "$(command -v "$NVCC")")")")
failed=0 files=0
for file in engine/cuda/*.cpp; do
  # Several GPUs are an option: without NCCL's header the build leaves this file out.
  case "$file" in */nccl_*) [ -e "$toolkit/include/nccl.h" ] || continue ;; esac
  files=$((files + 1))
  # shellcheck disable=SC2086
  if ! "${CXX:-c++}" -std=c++20 -fsyntax-only -Wall -Wextra -Wshadow -Werror -I. ${INCLUDES:-} \
    -isystem "$toolkit/include" "$file" 2> "$work/errors"; then
    failed=$((failed + 1))
    echo "$file does not compile:"
    head -n 8 "$work/errors" | cut -c 1-300
  fi
done
echo "engine/cuda: $files files, $failed do not compile"
[ "$failed" = 0 ] || note 2
exit "$worst"
