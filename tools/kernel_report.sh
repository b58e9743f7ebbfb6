#!/usr/bin/env bash
# Registers, shared memory, stack and spills of every kernel, as ptxas reports them.
#
# usage: tools/kernel_report.sh [kernels/x.cu ...]      (default: all)
#   ARCHS="80 90"   architectures      NVCC=...   compiler      JOBS=...   compilations at once
# Exit status: 0; 1 when a kernel spills registers; 2 when a file does not compile or there is no nvcc.
set -u -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
ARCHS=${ARCHS:-80 90}
JOBS=${JOBS:-$(nproc)}
if ! command -v "$NVCC" > /dev/null; then
  echo "kernel_report: no nvcc found (set NVCC)" >&2
  exit 2
fi
demangle=$(command -v cu++filt || command -v "$(dirname "$NVCC")/cu++filt" || command -v c++filt || echo cat)

files=()
for file in "$@"; do files+=("$(realpath "$file")"); done
[ ${#files[@]} -gt 0 ] || files=("$root"/kernels/*.cu)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One output per file and architecture: <stem>.<arch>.log
compile() {
  local file=$1 arch=$2 log
  log="$work/$(basename "$file" .cu).$arch.log"
  if ! "$NVCC" -I "$root" -std=c++20 --expt-relaxed-constexpr -O3 -arch="sm_$arch" \
    -DPLUME_KERNELS=cuda_kernels -DPLUME_KERNEL_DEVICE=cuda -Xptxas -v -cubin -o "$log.cubin" "$file" > "$log" 2>&1; then
    { echo "kernel_report: $file does not compile for sm_$arch"; cat "$log"; } >&2
    touch "$work/failed"
  fi
}
export -f compile
export NVCC root work
for file in "${files[@]}"; do
  for arch in $ARCHS; do printf '%s\0%s\0' "$file" "$arch"; done
done | xargs -0 -n 2 -P "$JOBS" bash -c 'compile "$1" "$2"' _
[ ! -e "$work/failed" ] || exit 2

# ptxas -v: "Compiling entry function 'X' for 'sm_90'", then "N bytes stack frame, N bytes spill stores, N
# bytes spill loads", then "Used N registers, used N barriers, N bytes smem, ..."
for log in "$work"/*.log; do
  awk -v arch="${log%.log}" '
    BEGIN { sub(/.*\./, "", arch) }
    /Compiling entry function/ { split($0, part, "\047"); name = part[2]; stack = stores = loads = 0 }
    /bytes stack frame/ {
      for (i = 1; i <= NF; ++i) {
        if ($(i + 2) == "stack") stack = $i
        if ($(i + 3) == "stores,") stores = $i
        if ($(i + 3) == "loads") loads = $i
      }
    }
    /Used [0-9]+ registers/ {
      registers = shared = 0
      for (i = 1; i <= NF; ++i) {
        if ($i == "Used") registers = $(i + 1)
        if ($(i + 2) ~ /^smem/) shared = $i
      }
      if (name != "") print name "\t" arch "\t" registers "\t" shared "\t" stack "\t" stores "/" loads
      name = ""
    }' "$log"
done > "$work/rows"

# The demangled name, without return type, parameters and the namespaces that all kernels share.
cut -f 1 "$work/rows" | "$demangle" |
  sed -E 's/^void //; s/\(anonymous namespace\)::|<unnamed>:://g; s/plume::cuda_kernels:://g; s/plume:://g
          s/\((int|unsigned int|bool)\)//g; s/\(.*$//' > "$work/names"
paste "$work/names" <(cut -f 2- "$work/rows") | sort |
  awk -F '\t' '
    BEGIN { printf "%-64s | %4s | %9s | %6s | %5s | %s\n", "kernel", "arch", "registers", "shared", "stack", "spill stores/loads" }
    { printf "%-64s | %4s | %9s | %6s | %5s | %s\n", $1, $2, $3, $4, $5, $6; split($6, s, "/"); if (s[1] + s[2] > 0) ++spills }
    END { printf "%d kernels, %d with spills\n", NR, spills; exit spills > 0 }'
