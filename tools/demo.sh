#!/usr/bin/env bash
# Installs what is missing, builds, trains ResNet18 on the embedded data set for a short while, evaluates it
# and prints a table. The run lands in runs/demo; a second call replaces it.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install_deps.sh
preset=cpu
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then preset=developer; fi
# A GPU of another architecture than the developer preset's needs code for it.
if [ "$preset" = developer ] && command -v nvidia-smi >/dev/null; then
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ' || true)
  [ -n "$capability" ] && architecture="-DCMAKE_CUDA_ARCHITECTURES=$capability-real"
fi
echo "== build ($preset) =="
cmake --preset "$preset" -DPLUME_TESTS=OFF -DPLUME_BENCH=OFF -B build/demo ${architecture:-} >/dev/null
cmake --build build/demo -j "$(nproc)"

run=runs/demo
echo "== train =="
started=$SECONDS
build/demo/bin/train --model resnet18 --data synthetic --epochs "${EPOCHS:-6}" --batch 64 --lr 0.05 --warmup-epochs 1 \
  --out "$run" --overwrite
echo "== evaluate =="
build/demo/bin/evaluate --checkpoint "$run/best.safetensors" --batch 64 --json "$run/evaluation.json"
echo "checkpoint  $run/best.safetensors   metrics  $run/metrics.jsonl   settings  $run/config.json"
echo "trained and evaluated in $((SECONDS - started)) s"
