#!/usr/bin/env bash
# Packs what tools/gpu_check.sh runs on a GPU into one archive, so that nothing need be compiled there: programs,
# plug-ins, tests, the libraries that a bare machine lacks, networks with their logits, predicted counts.
#
#   tools/gpu_bundle.sh [--build DIR] [--counters DIR | --predictions DIR] [--out DIR] [--as-built] [--jobs N]
#
# --build: a build folder, brought up to date unless --as-built (default build/gpu-bundle-build, made for sm_80
# and sm_90). --counters: one with PLUME_COUNTERS (default build/gpu-bundle-counters), which predicts; --predictions:
# JSON files of profile --gpu, made before. cuDNN, cuBLAS and the driver's libraries are the other machine's.
# Writes bundle.tar.xz and bundle.json into --out (default build/gpu-bundle, which git ignores).
# Exit status: 0; 1 something did not build or run; 2 wrong usage; 4 the archive is larger than 56 MiB: with
# the tracked files that would be more than 64.
set -u -o pipefail
cd "$(dirname "$0")/.."
usage() { echo "gpu_bundle: $1; --build, --counters, --predictions, --out DIR, --jobs N, --as-built" >&2; exit 2; }
die() { echo "gpu_bundle: $1" >&2; exit "${2:-1}"; }
build=build/gpu-bundle-build counters=build/gpu-bundle-counters out=build/gpu-bundle jobs=$(nproc)
predictions= as_built=0
while [ $# -gt 0 ]; do
  case "$1" in
    --build | --counters | --predictions | --out | --jobs)
      [ $# -ge 2 ] || usage "$1 needs a value"
      declare "${1#--}=$2"
      shift 2
      ;;
    --as-built) as_built=1; shift ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) usage "unknown flag '$1'" ;;
  esac
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || usage "--jobs '$jobs' is not a whole number"
programs=(train evaluate profile time_model bench_ops ops_test)
command -v xz >/dev/null || die "xz is missing; run tools/install_deps.sh --tests" 4

if [ "$as_built" = 0 ]; then
  [ -e "$build/CMakeCache.txt" ] || cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPLUME_CUDA=ON \
    "-DCMAKE_CUDA_ARCHITECTURES=80-real;90-real" || die "$build cannot be configured"
  cmake --build "$build" -j "$jobs" --target plume_cuda cuda_host "${programs[@]}" || die "$build does not build"
  if [ -z "$predictions" ]; then
    [ -e "$counters/CMakeCache.txt" ] || cmake -S . -B "$counters" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DPLUME_CUDA=OFF -DPLUME_COUNTERS=ON -DPLUME_TESTS=OFF -DPLUME_BENCH=OFF || die "$counters cannot be configured"
    cmake --build "$counters" -j "$jobs" --target profile || die "$counters does not build"
  fi
fi
started=$SECONDS
mkdir -p "$out" || die "$out cannot be made" 4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{bin,lib/spare,fixtures,predictions}

for program in "${programs[@]}"; do
  cp "$build/bin/$program" "$work/bin/" || die "$build/bin/$program is missing; leave --as-built out"
done
cp "$build"/lib/libplume.so "$work/lib/" || die "$build/lib/libplume.so is missing"
for plugin in libplume_cuda.so libplume_cuda_stand_in.so; do
  [ ! -e "$build/lib/$plugin" ] || cp "$build/lib/$plugin" "$work/lib/"
done
cp "$build"/lib/stand_in/libcupti.so.* "$work/lib/" 2>/dev/null && mkdir -p "$work/lib/stand_in" &&
  mv "$work"/lib/libcupti.so.* "$work/lib/stand_in/"
# What the programs are linked with, but for the C library and what comes with a GPU. The compiler's own
# libraries are spare: used where the machine's are missing or too old.
LD_LIBRARY_PATH=$build/lib ldd "$work"/bin/* | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  while read -r library; do
    case "$(basename "$library")" in
      libplume* | libc.so* | libm.so* | libdl.so* | libpthread.so* | librt.so* | libcuda* | libcublas* | libcudnn*) ;;
      libstdc++* | libgcc_s* | libgomp*) cp -L "$library" "$work/lib/spare/" ;;
      *) cp -L "$library" "$work/lib/" ;;
    esac
  done
find "$work/bin" "$work/lib" -type f -exec strip --strip-unneeded {} + 2>/dev/null || true

# Networks that have learnt a little, and the logits that the cpu device computes from them: in f32, and in half
# precision, to know how far rounding alone moves them.
run() {
  env OMP_NUM_THREADS="$jobs" LD_LIBRARY_PATH="$work/lib" "$work/bin/$1" --device cpu "${@:2}" > "$work/log" 2>&1 ||
    { tail -n 5 "$work/log" >&2; die "$1 failed"; }
}
for model in shufflenet_v2_x0_5 squeezenet1_1 mobilenet_v3_small; do
  # At rates at which each of them learns, so that logits stay of ordinary size.
  run train --model $model --epochs 1 --batch 16 --limit-train 160 --limit-test 16 --validation 0 --lr 0.002 \
    --precise-bn 4 --quiet --out "$work/run-$model"
  mv "$work/run-$model/best.safetensors" "$work/fixtures/$model.weights.safetensors"
  rm -rf "$work/run-$model"
  for precision in f32 bf16 f16; do
    run evaluate --checkpoint "$work/fixtures/$model.weights.safetensors" --precision $precision --limit 32 \
      --latency-seconds 0 --logits "$work/fixtures/$model.logits-$precision.safetensors"
  done
done

# What ncu should count, said beforehand: tools/profiling/gpu_check/counters.py asks for the same passes there.
if [ -n "$predictions" ]; then
  cp "$predictions"/*.json "$work/predictions/" || die "$predictions has no predictions" 2
else
  for pass in inference training; do
    env LD_LIBRARY_PATH="$counters/lib" "$counters/bin/profile" --device simt --gpu h100 --model mobilenet_v3_small --mode $pass --dtype bf16 --size 224 \
      --batch 32 --sample-blocks 8 --json "$work/predictions/mobilenet_v3_small-$pass.json" > "$work/log" 2>&1 ||
      { tail -n 5 "$work/log" >&2; die "$counters/bin/profile failed"; }
  done
fi
rm -f "$work/log"

architectures=$(sed -n 's/^CMAKE_CUDA_ARCHITECTURES:[A-Z]*=//p' "$build/CMakeCache.txt")
commit=$(git describe --always --abbrev=12 --exclude='*' --dirty=+ 2>/dev/null || echo unknown)
printf '{"commit": "%s", "architectures": "%s", "date": "%s", "predictions": %s}\n' "$commit" "$architectures" \
  "$(date -u +%F)" "$(find "$work/predictions" -type f | wc -l)" > "$work/bundle.json"
cp "$work/bundle.json" "$out/bundle.json"
tar -C "$work" -c . | xz -3 -T "$jobs" > "$out/bundle.tar.xz" || die "$out/bundle.tar.xz cannot be written" 4
bytes=$(stat -c %s "$out/bundle.tar.xz")
echo "gpu_bundle: $out/bundle.tar.xz, $((bytes >> 20)) MiB, architectures $architectures, packed in $((SECONDS - started)) s"
[ "$bytes" -le $((56 << 20)) ] || die "$out/bundle.tar.xz has $bytes bytes; leave an architecture out" 4
