#!/usr/bin/env bash
# Everything that wants a GPU, in one go: builds, runs all tests on cuda, compute-sanitizer over the kernels,
# benchmarks, and the same work in PyTorch where PyTorch is there.
#
#   tools/gpu_check.sh [--deps DIR] [--out DIR] [--build DIR] [--minutes 8] [--jobs N] [--no-gpu-ok]
#
# Wants a GPU, the CUDA toolkit with cuDNN, a compiler and CMake, and nothing from the network: with a folder
# deps/ (see tools/bundle_deps.sh) not even packages. Each phase has its own time limit; one that fails does
# not stop the next. Writes gpu_check.json and gpu_check.md into --out (default bench/results/<gpu>); logs
# stay in the build folder.
# --no-gpu-ok goes through the same phases on the cpu with small work: a rehearsal of this script, not a
# measurement. Exit status: 0 all green; 1 a phase failed; 2 wrong usage; 4 no GPU answers.
set -u -o pipefail
cd "$(dirname "$0")/.."

usage() { echo "gpu_check: $1; --deps DIR, --out DIR, --build DIR, --minutes N, --jobs N, --no-gpu-ok" >&2; exit 2; }
deps= out= build=build/gpu-check minutes=8 jobs=$(nproc) rehearsal=0
[ -d deps/usr ] && deps=deps
while [ $# -gt 0 ]; do
  case "$1" in
    --deps | --out | --build | --minutes | --jobs)
      [ $# -ge 2 ] || usage "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    --no-gpu-ok) rehearsal=1; shift ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown flag '$1'" ;;
  esac
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || usage "--minutes '$minutes' is not a whole number"
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "--jobs '$jobs' is not a whole number"

device=cuda gpu= driver= capability=
if command -v nvidia-smi >/dev/null &&
  read -r gpu < <(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null) && [ -n "$gpu" ]; then
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1)
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
elif [ "$rehearsal" = 1 ]; then
  device=cpu gpu=rehearsal
else
  echo "gpu_check: no GPU answers" >&2
  exit 4
fi
[ -n "$out" ] || out=bench/results/$(echo "$gpu" | tr 'A-Z' 'a-z' | sed -E 's/[^a-z0-9]+/-/g; s/^-|-$//g')
[ "$device" = cuda ] || [ "$out" != bench/results/rehearsal ] || out=$build/rehearsal
mkdir -p "$build" "$out" || { echo "gpu_check: $out: cannot be made" >&2; exit 4; }
logs=$build/logs
rm -rf "$logs" && mkdir -p "$logs"
bin=$build/bin
deadline=$((SECONDS + minutes * 60))
python=
for candidate in python3 /usr/bin/python3 python; do
  if "$candidate" -c 'import torch, torchvision' 2>/dev/null; then python=$candidate; break; fi
done
# The report needs any Python.
reporter=$(command -v "${python:-python3}" || true)

# phase NAME LIMIT COMMAND...: runs it under the limit (seconds, for 8 minutes in all; in proportion for
# others), within what is left of the whole time. The log goes to
# logs/NAME.log; one line of name, status, seconds to phases.tsv. A command that exits with 77 is skipped.
phase() {
  local name=$1 limit=$(($2 * minutes / 8)) left=$((deadline - SECONDS)) started=$SECONDS status code
  shift 2
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -le 0 ]; then
    printf '%s\t%s\t0\n' "$name" "no time left" >> "$logs/phases.tsv"
    echo "== $name: no time left"
    return 1
  fi
  timeout --kill-after=5 "$limit" "$@" > "$logs/$name.log" 2>&1 < /dev/null
  code=$?
  case $code in
    0) status=ok ;;
    77) status=skipped ;;
    124 | 137) status="over its limit of $limit s" ;;
    *) status="failed ($code)" ;;
  esac
  printf '%s\t%s\t%s\n' "$name" "$status" $((SECONDS - started)) >> "$logs/phases.tsv"
  echo "== $name: $status, $((SECONDS - started)) s"
  if [ "$status" != ok ]; then tail -n 5 "$logs/$name.log" | cut -c 1-300 | sed 's/^/   /'; fi
  [ "$code" = 0 ] || [ "$code" = 77 ]
}

configure() {
  local options=(-S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPLUME_BENCH=ON -DPLUME_TESTS=ON)
  [ -e "$build/CMakeCache.txt" ] || { command -v ninja >/dev/null && options+=(-G Ninja) || options+=(-G "Unix Makefiles"); }
  [ -n "$deps" ] && options+=("-DPLUME_DEPS_DIR=$deps")
  if [ "$device" = cuda ]; then
    [ -z "${CUDACXX:-}" ] && ! command -v nvcc >/dev/null && export CUDACXX=/usr/local/cuda/bin/nvcc
    options+=(-DPLUME_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${capability:-90}-real")
  fi
  cmake "${options[@]}"
}
# One target that does not build must not take the others with it.
compile() {
  local go_on=-k
  configure || return
  ! grep -q 'CMAKE_GENERATOR:INTERNAL=Ninja' "$build/CMakeCache.txt" || go_on=-k0
  cmake --build "$build" -j "$jobs" -- "$go_on"
}

# The emulator's and the cpu's share of the tests need no GPU and run elsewhere.
run_tests() {
  local skip='^(ops_cpu|ops_simt)$'
  [ "$device" = cuda ] || skip='^(ops_simt|ops_cuda)$'
  ctest --test-dir "$build" -j "$jobs" --output-on-failure --timeout 150 -E "$skip" -LE simt
}

# The kernel tests in shards, each under the sanitizer; only our own kernels are instrumented.
sanitize() {
  local tool=$1 sanitizer shards=$((jobs < 12 ? jobs : 12)) filter failed=0 i pids=()
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [ -n "$sanitizer" ] || { echo "no compute-sanitizer here"; return 77; }
  [ "$device" = cuda ] || { echo "nothing to check without a GPU"; return 77; }
  filter=(--kernel-name kernel_substring=cuda_kernels)
  "$sanitizer" --help 2>&1 | grep -q -- '--kernel-name ' || filter=(--kernel-regex kns=cuda_kernels)
  for ((i = 0; i < shards; ++i)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$i OMP_NUM_THREADS=1 "$sanitizer" --tool "$tool" "${filter[@]}" \
      --report-api-errors no --error-exitcode 9 "$bin/ops_test" --device=cuda > "$logs/$tool.$i.log" 2>&1 &
    pids+=($!)
  done
  for ((i = 0; i < shards; ++i)); do
    wait "${pids[i]}" || { failed=1; echo "shard $i of $shards failed:"; grep -E '=========|FAILED' "$logs/$tool.$i.log" | head -n 12; }
    grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$logs/$tool.$i.log"
  done
  return $failed
}

bench_models() {
  local options=(--benchmark_out="$logs/bench_models.json" --benchmark_out_format=json)
  [ "$device" = cuda ] || options+=(--workload inference:32:1 --workload training:32:2)
  "$bin/bench_models" --device "$device" "${options[@]}" --benchmark_min_time=0.5
}
bench_ops() {
  local options=(--benchmark_out="$logs/bench_ops.json" --benchmark_out_format=json --dtype bf16)
  [ "$device" = cuda ] || options+=(--workload training:32:2 --no-ceilings)
  "$bin/bench_ops" --device "$device" "${options[@]}" --benchmark_min_time=0.02
}
# Where the time of a recorded training step goes, kernel by kernel, and how far the sum is from the step.
profile_networks() {
  local options=(--mode training --dtype bf16 --size 224 --batch 256) model
  [ "$device" = cuda ] || options=(--mode training --size 32 --batch 2 --seconds 0.2)
  for model in mobilenet_v3_small resnet18; do
    "$bin/profile" --device "$device" --model "$model" "${options[@]}" --json "$logs/profile-$model.json" \
      --trace "$logs/profile-$model.trace.json" --svg "$logs/profile-$model" || return
  done
  "$bin/profile" --device "$device" "${options[@]}" --graph off
}
torch_peer() {
  [ -n "$python" ] || { echo "no PyTorch here"; return 77; }
  if [ "$device" = cuda ]; then
    "$python" bench/peers/torch_cuda.py --seconds 0.5 "$@"
  else
    "$python" bench/peers/torch_cpu.py --size 32 --batch 1 --seconds 0.2 --variant channels_last
  fi
}
# timeout runs a program, not a function: each phase is this script's own shell again.
export device deps build bin logs jobs capability python
export -f configure compile run_tests sanitize bench_models bench_ops profile_networks torch_peer
as_phase() { local name=$1 limit=$2; shift 2; phase "$name" "$limit" bash -c '"$@"' phase "$@"; }

failed=()
try() { as_phase "$@" || failed+=("$1"); }
# In the order of what one would miss most if time ran out.
try build 240 compile
if [ -e "$build/CMakeCache.txt" ]; then
  try tests 150 run_tests
  try memcheck 90 sanitize memcheck
  try bench_models 90 bench_models
  try torch 90 torch_peer --no-compile
  try racecheck 90 sanitize racecheck
  try profile 60 profile_networks
  try bench_ops 90 bench_ops
  [ "$device" = cuda ] && try torch_compile 90 torch_peer --only-compile
fi

if [ -n "$reporter" ]; then
  "$reporter" bench/peers/gpu_report.py --logs "$logs" --out "$out" --gpu "$gpu" --driver "$driver" \
    --commit "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)" || failed+=(report)
else
  echo "gpu_check: no Python, so no report; logs are in $logs" >&2
  failed+=(report)
fi
if [ ${#failed[@]} -gt 0 ]; then
  echo "gpu_check: FAILED: ${failed[*]} (logs in $logs)"
  exit 1
fi
echo "gpu_check: all green in $SECONDS s on $gpu"
