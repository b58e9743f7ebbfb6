#!/usr/bin/env bash
# tools/gpu_bundle.sh and tools/gpu_check.sh from end to end on the stand-in, in a copy of nothing but the bundle and
# the sources that it needs: what only runs on a rare GPU would otherwise rot.
#
# usage: gpu_check_rehearsal.sh BUILD-FOLDER
set -u -o pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
fail() { echo "FAILED: $1"; exit 1; }
says() { grep -q -- "$2" "$1" || { cat "$1"; fail "$1 does not say '$2'"; }; }

cd "$source" || exit 1
tools/gpu_bundle.sh --build "$build" --as-built --predictions tests/fixtures/gpu_counters --out "$place/bundle" --jobs 1 ||
  fail "the bundle was not packed"
# A second architecture is another 9 MiB or so, and the limit of both 56: what grows shall be seen to grow here.
mib=$(($(stat -c %s "$place/bundle/bundle.tar.xz") >> 20))
[ "$mib" -le 40 ] || fail "the bundle has $mib MiB, 40 are allowed for one architecture"
mkdir -p "$place/tree/bench" "$place/tree/tests/fixtures"
cp -r tools "$place/tree/"
cp -r bench/peers "$place/tree/bench/"
cp tests/fixtures/mix_torchvision.txt "$place/tree/tests/fixtures/"
cd "$place/tree" || exit 1
check() { exec tools/gpu_check.sh --rehearse --bundle "$place/bundle/bundle.tar.xz" --jobs 2 --minutes 2 "$@"; }

# All phases. Without PyTorch, so that the test takes as long wherever it runs: -S hides all packages.
printf '#!/bin/sh\nexec "%s" -S "$@"\n' "$(command -v python3)" > "$place/bare-python"
chmod +x "$place/bare-python"
(check --python "$place/bare-python" --out "$place/green") > "$place/green.log" 2>&1 || { cat "$place/green.log"; fail "a rehearsal is not green"; }
says "$place/green.log" "no PyTorch here"
says "$place/green.log" "all green"
report=$place/green/gpu_check.md
says "$report" "recorded = eager | ok"
says "$report" "stored logits | ok"
says "$report" tests passed, 0 failed, in 2 shards
says "$report" "| plume graph |"
says "$report" "| small | "
says "$report" "| relu.forward |"
[ -s "$place/green/logs.tar.gz" ] || fail "no logs.tar.gz"

# What goes wrong is shown, stops nothing, and is the exit status.
(check --python "$place/bare-python" --out "$place/red" --inject smoke=fail --inject ops=hang --inject networks=fail \
  --inject profiles=fail --inject benches=fail) > "$place/red.log" 2>&1
[ $? = 1 ] || { cat "$place/red.log"; fail "a rehearsal with failures does not end with 1"; }
report=$place/red/gpu_check.md
says "$place/red.log" "FAILED: smoke ops networks profiles benches"
says "$report" "| smoke | failed (3) |"
says "$report" "| ops | over its limit of 2 s |"
says "$report" "| counters | ok |"
says "$report" "made to fail"

# One that is stopped leaves a report.
rm -rf build
check --python "$place/bare-python" --out "$place/stopped" --inject smoke=fail --inject ops=fail > "$place/stopped.log" 2>&1 &
pid=$!
for ((i = 0; i < 300; ++i)); do [ -s build/gpu-check/logs/networks.log ] && break; sleep 0.1; done
kill "$pid"
wait "$pid"
[ $? = 143 ] || { cat "$place/stopped.log"; fail "a rehearsal that was stopped does not end with 143"; }
says "$place/stopped/gpu_check.md" "| networks | stopped |"

(check --inject networks=never) > "$place/usage.log" 2>&1
[ $? = 2 ] || fail "a wrong injection is not refused"
says "$place/usage.log" "'networks=never' is not PHASE=fail"
echo "gpu_check rehearsal: ok, $SECONDS s"
