# Sourced by tools/gpu_check.sh: what its phases run. With --rehearse the same with little work.

need_python() { [ -n "$reporter" ] || { echo "no Python here"; exit 77; }; }

smoke() {
  need_python
  local options=(--jobs "$jobs")
  [ "$rehearsal" = 0 ] || options+=(--small)
  "$reporter" tools/profiling/gpu_check/smoke.py --bin "$bin" --fixtures "$work/bundle/fixtures" --work "$work/smoke" "${options[@]}"
}

# shards NAME COMMAND...: ops_test in shards at once, each with a log that grows test by test.
shards() {
  local name=$1 count=$((jobs < 12 ? jobs : 12)) i failed=0 pids=()
  shift
  for ((i = 0; i < count; ++i)); do
    GTEST_TOTAL_SHARDS=$count GTEST_SHARD_INDEX=$i OMP_NUM_THREADS=1 "$@" > "$logs/$name.$i.log" 2>&1 &
    pids+=($!)
  done
  for ((i = 0; i < count; ++i)); do
    wait "${pids[i]}" || { failed=1; echo "shard $i of $count failed:"; grep -E '=========|FAILED' "$logs/$name.$i.log" | head -n 12; }
  done
  return $failed
}
operations() {
  local options=(--device=cuda)
  [ "$rehearsal" = 0 ] || options+=(--gtest_filter='ReluTest.*:SumRowsTest.*:CastTest.*:MixBatchTest.*')
  shards ops "$bin/ops_test" "${options[@]}"
}
# Only our own kernels are instrumented; those of cuDNN would take the time.
memcheck() {
  local sanitizer filter=(--kernel-name kernel_substring=cuda_kernels)
  [ "$rehearsal" = 0 ] || { echo "nothing to check without a GPU"; exit 77; }
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [ -n "$sanitizer" ] || { echo "no compute-sanitizer here"; exit 77; }
  "$sanitizer" --help 2>&1 | grep -q -- '--kernel-name ' || filter=(--kernel-regex kns=cuda_kernels)
  shards memcheck "$sanitizer" --tool memcheck --target-processes all "${filter[@]}" --report-api-errors no --error-exitcode 9 \
    "$bin/ops_test" --device=cuda
}

networks() {
  need_python
  local options=(--seconds 0.3)
  [ "$rehearsal" = 0 ] || options=(--small)
  [ -z "$torch_python" ] || options+=(--python "$torch_python")
  "$reporter" tools/profiling/gpu_check/networks.py --time-model "$bin/time_model" --budget "$phase_seconds" "${options[@]}"
}

# Where the time of a recorded training step goes, kernel by kernel, and how far the sum is from the step.
profiles() {
  local options=(--dtype bf16 --size 224 --batch 256 --seconds 1) model failed=0
  local runs=(mobilenet_v3_small:training resnet18:training mobilenet_v3_small:inference)
  [ "$rehearsal" = 0 ] || { options=(--size 32 --batch 2 --seconds 0.1); runs=(shufflenet_v2_x0_5:training); }
  for model in "${runs[@]}"; do
    "$bin/profile" --device cuda --model "${model%:*}" --mode "${model#*:}" "${options[@]}" \
      --json "$logs/profile-${model/:/-}.json" --trace "$logs/profile-${model/:/-}.trace.json" \
      --svg "$logs/profile-${model/:/-}" || failed=1
  done
  return $failed
}

counters() {
  need_python
  local options=()
  [ "$rehearsal" = 0 ] || options=(--pretend)
  "$reporter" tools/profiling/gpu_check/counters.py --predictions "$work/bundle/predictions" --time-model "$bin/time_model" \
    --work "$logs" "${options[@]}"
}

# Convolutions first: they are most of every network.
benches() {
  [ -x "$bin/bench_ops" ] || { echo "bench_ops was not built"; exit 77; }
  local options=(--dtype bf16 --workload training:224:256 --model resnet18 --model mobilenet_v3_small) failed=0 what
  local slots=('^conv2d[.]forward/[^d]' '^depthwise_conv2d' '^(batch_norm|squeeze|epilogue|mbconv)')
  [ "$rehearsal" = 0 ] || { options=(--dtype f32 --workload training:32:2 --model shufflenet_v2_x0_5 --no-ceilings); slots=('^relu'); }
  for what in "${!slots[@]}"; do
    "$bin/bench_ops" --device cuda "${options[@]}" --benchmark_filter="${slots[what]}" --benchmark_min_time=0.01 \
      --benchmark_out="$logs/bench_ops.$what.json" --benchmark_out_format=json || failed=1
  done
  return $failed
}
