#!/usr/bin/env bash
# A slot's ladder in figures: what each variant asks of memory, and its predicted time, for one call of a
# network. Wants a build with counters (cmake --preset counters).
#
# usage: tools/ladder.sh slot [flags of profile]
#   tools/ladder.sh depthwise_conv2d.forward --model mobilenet_v3_small --batch 8 --shape 14x14x96
#   PROFILE=...   the program (build/counters/bin/profile)      GPU=...   h100, a100, ... or a file
# Exit status: 0; 2 wrong usage, or no variant could be shown.
set -u -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PROFILE=${PROFILE:-$root/build/counters/bin/profile}
GPU=${GPU:-h100}
if [ $# -lt 1 ] || [ ! -x "$PROFILE" ]; then
  echo "ladder: expected a slot, and $PROFILE" >&2
  exit 2
fi
slot=$1
shift
variants=$("$PROFILE" --device simt --list-variants | awk -v slot="$slot" '
  /^[^ ]/ { here = $1 == slot }
  here && $1 == "simt" { for (i = 2; i <= NF; ++i) { sub(/\*$/, "", $i); print $i } }')
if [ -z "$variants" ]; then
  echo "ladder: $slot has no variant on simt (profile --list-variants)" >&2
  exit 2
fi

printf '%-18s %s\n' variant "predicted, then each bound alone, then counts; a block of lines per launch"
shown=0
for variant in $variants; do
  # A variant that does not take some call of the network cannot be forced for all of it: it is left out.
  if text=$("$PROFILE" --device simt --gpu "$GPU" --variant "$slot=$variant" --kernel "$slot/$variant" "$@" \
      2>&1); then
    grep -E '^(predicted for|each bound|sectors)' <<< "$text" | sed "s|^|$(printf '%-18s ' "$variant")|"
    shown=$((shown + 1))
  else
    printf '%-18s left out: %s\n' "$variant" "$(tail -n 1 <<< "$text")"
  fi
done
[ "$shown" -gt 0 ] || exit 2
