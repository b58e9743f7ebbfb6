#!/usr/bin/env bash
# From a fresh checkout to a trained and evaluated network: installs what is missing, builds the two programs
# that it runs, trains ResNet18 on the embedded data set for a short while, evaluates it and prints a table.
# The run lands in runs/demo; a second call replaces it.
set -euo pipefail
cd "$(dirname "$0")/.."

begun=$SECONDS
phase=$SECONDS
say() { echo "== $1 =="; }
took() { echo "-- $1: $((SECONDS - phase)) s"; phase=$SECONDS; }

say "packages: installs what is missing (up to a minute)"
tools/install_deps.sh
took packages

# CUDA where a driver answers, for the architecture of its first GPU.
options=(--preset cpu)
gpu=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ' || true)
if [[ "$gpu" =~ ^[0-9]+$ ]] && { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }; then
  options=(--preset developer "-DCMAKE_CUDA_ARCHITECTURES=$gpu-real")
fi
targets=(train evaluate)
[ "${options[1]}" = developer ] && targets+=(plume_cuda)
say "build: ${targets[*]} with the preset ${options[1]} (about 4 minutes on 2 cores, the first time)"
cmake "${options[@]}" -DPLUME_TESTS=OFF -DPLUME_BENCH=OFF -B build/demo >/dev/null
cmake --build build/demo -j "$(nproc)" --target "${targets[@]}"
took build

run=runs/demo
say "train: ResNet18, 10 classes of drawn shapes, ${EPOCHS:-6} epochs (about a minute on 2 cores)"
build/demo/bin/train --model resnet18 --data synthetic --epochs "${EPOCHS:-6}" --batch 64 --lr 0.05 \
  --warmup-epochs 1 --out "$run" --overwrite
took train
say "evaluate"
build/demo/bin/evaluate --checkpoint "$run/best.safetensors" --batch 64 --json "$run/evaluation.json"
took evaluate
echo "checkpoint  $run/best.safetensors   metrics  $run/metrics.jsonl   settings  $run/config.json"
echo "all in $((SECONDS - begun)) s"
