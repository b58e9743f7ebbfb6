#!/usr/bin/env bash
# Everything that wants a GPU, in the order of its value, within minutes: smoke test, all operations, the
# networks beside PyTorch, profiles, compute-sanitizer, predicted against counted, benchmarks.
#
#   tools/gpu_check.sh [--bundle FILE] [--out DIR] [--minutes 9] [--jobs N] [--python PROGRAM] [--deps DIR]
#                      [--build DIR] [--rehearse [--inject PHASE=fail|hang ...]]
#
# Runs what tools/gpu_bundle.sh packed (default build/gpu-bundle/bundle.tar.xz). Only where that does not run, it
# builds, and then only what it needs. Wants a driver, cuDNN and cuBLAS, nothing from the network; PyTorch, ncu
# and compute-sanitizer are used where they are. Each phase has a share of the time, and gets what earlier ones
# have left; one that fails does not stop the next. After every phase gpu_check.json, gpu_check.md and
# logs.tar.gz are written anew into --out (default bench/results/<gpu>).
# --rehearse goes through the same phases with little work on a stand-in for a GPU (tests/cuda_host): it finds
# mistakes of these scripts and measures nothing. --inject makes a phase fail, or hang.
# Exit status: 0 all green; 1 a phase failed; 2 wrong usage; 4 no GPU answers.
set -u -o pipefail
cd "$(dirname "$0")/.."

usage() { echo "gpu_check: $1; --help lists the flags" >&2; exit 2; }
deps= out= build=build/gpu-check bundle=build/gpu-bundle/bundle.tar.xz minutes=9 jobs=$(nproc) rehearsal=0 python= injections=
[ -d deps/usr ] && deps=deps
while [ $# -gt 0 ]; do
  case "$1" in
    --deps | --out | --build | --minutes | --jobs | --bundle | --python)
      [ $# -ge 2 ] || usage "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    --inject)
      [[ ${2:-} =~ ^[a-z]+=(fail|hang)$ ]] || usage "--inject: '${2:-}' is not PHASE=fail or PHASE=hang"
      injections="$injections $2"
      shift 2
      ;;
    --rehearse) rehearsal=1; shift ;;
    -h | --help) sed -n '2,18s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown flag '$1'" ;;
  esac
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || usage "--minutes '$minutes' is not a whole number"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "--jobs '$jobs' is not a whole number"
[ -z "$injections" ] || [ "$rehearsal" = 1 ] || usage "--inject goes with --rehearse"

gpu= driver= capability=
if [ "$rehearsal" = 1 ]; then
  gpu=rehearsal
elif command -v nvidia-smi >/dev/null && IFS= read -r gpu < <(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) &&
  [ -n "$gpu" ]; then
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
else
  echo "gpu_check: no GPU answers" >&2
  exit 4
fi
work=$PWD/$build
[[ $build != /* ]] || work=$build
[ -n "$out" ] || out=bench/results/$(echo "$gpu" | tr 'A-Z' 'a-z' | sed -E 's/[^a-z0-9]+/-/g; s/^-|-$//g')
[ "$out" != bench/results/rehearsal ] || out=$work/rehearsal
mkdir -p "$work" "$out" || { echo "gpu_check: $out: cannot be made" >&2; exit 4; }
logs=$work/logs bin=$work/run
rm -rf "$logs" && mkdir -p "$logs"
: > "$logs/phases.tsv"
[ "$rehearsal" = 1 ] || nvidia-smi -q > "$logs/machine.txt" 2>&1
deadline=$((SECONDS + minutes * 60))
commit=$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# The Python of the reports: any; of PyTorch: the first that has it.
torch_python= reporter=
for candidate in ${python:-python3 /usr/bin/python3 python}; do
  command -v "$candidate" >/dev/null || continue
  [ -n "$reporter" ] || reporter=$(command -v "$candidate")
  if "$candidate" -c 'import torch, torchvision' 2>/dev/null; then torch_python=$(command -v "$candidate"); break; fi
done
[ -n "$reporter" ] || echo "gpu_check: no Python, so no report; logs are in $logs" >&2
[ -n "$torch_python" ] || echo "gpu_check: no PyTorch here"

source tools/profiling/gpu_check/phases.sh
source tools/profiling/gpu_check/machine.sh
source tools/profiling/gpu_check/work.sh
# timeout runs a program, not a function: each phase is a shell of its own that has these.
export rehearsal deps build work bin logs jobs capability torch_python reporter bundle
export -f unpack_bundle build_here make_runners gpu_library_folders python_package_folders need_python shards smoke \
  operations networks profiles memcheck counters benches
trap stop TERM INT HUP

failed=()
try() { phase "$@" || failed+=("$1"); }
ready=1
if ! phase bundle 15 unpack_bundle; then
  echo "gpu_check: the bundle does not run here, building instead"
  phase build 220 build_here || { failed+=(build); ready=0; }
fi
if [ "$ready" = 1 ]; then
  try smoke 60 smoke
  try ops 100 operations
  try networks 180 networks
  try profiles 40 profiles
  try memcheck 60 memcheck
  try counters 45 counters
  try benches 40 benches
fi
write_report || failed+=(report)
echo "gpu_check: report in $out"
if [ ${#failed[@]} -gt 0 ]; then
  echo "gpu_check: FAILED: ${failed[*]} (logs in $logs)"
  exit 1
fi
echo "gpu_check: all green in $SECONDS s on $gpu"
