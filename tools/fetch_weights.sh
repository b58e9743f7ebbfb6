#!/usr/bin/env bash
# Downloads torchvision's ImageNet weights from download.pytorch.org and checks them; needs the internet, curl
# or wget.
#
#   tools/fetch_weights.sh [--out out/weights] [--base URL] [NETWORK ...]      no network: all of them
#
# evaluate, predict and convert read the .pth files as they are. A file's name carries the first digits of its
# SHA-256, which is what torchvision checks; where the whole SHA-256 is known, it is checked. --base is a
# mirror that has files of the same names. Exit status: 0; 2 wrong usage; 3 a file is not what it should be; 4
# no connection, tool or room.
set -euo pipefail
tool=fetch_weights
# shellcheck source=tools/cli/download.sh
. "$(dirname "$0")/cli/download.sh"

# network, file, SHA-256 or its first digits
table='
mobilenet_v3_small mobilenet_v3_small-047dcff4.pth 047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f
resnet18           resnet18-f37072fd.pth           f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec
squeezenet1_0      squeezenet1_0-b66bff10.pth      b66bff10
squeezenet1_1      squeezenet1_1-b8a52dc0.pth      b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b
efficientnet_v2_s  efficientnet_v2_s-dd5fe13b.pth  dd5fe13b1d60ec15317ccc8ca158186e134d3366c3dde9cb9a4e301f2dc66c74
shufflenet_v2_x0_5 shufflenetv2_x0.5-f707e7126e.pth f707e7126e
shufflenet_v2_x1_0 shufflenetv2_x1-5666bf0f80.pth  5666bf0f80
'
known=$(awk 'NF { print $1 }' <<<"$table" | tr '\n' ' ')

out=out/weights
base=https://download.pytorch.org/models
networks=()
while [ $# -gt 0 ]; do
  case "$1" in
    --out | --base)
      [ $# -ge 2 ] || stop 2 "$1 needs a value"
      if [ "$1" = --out ]; then out=$2; else base=${2%/}; fi
      shift 2 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) stop 2 "there is no flag $1; --out FOLDER, --base URL" ;;
    *)
      [[ " $known" == *" $1 "* ]] || stop 2 "there are no weights of '$1'; networks: $known"
      networks+=("$1")
      shift ;;
  esac
done
mkdir -p "$out" || stop 4 "$out: cannot be made"
while read -r network file sha256; do
  [ -n "$network" ] || continue
  if [ ${#networks[@]} -eq 0 ] || [[ " ${networks[*]} " == *" $network "* ]]; then
    fetch "$base/$file" "$out/$file" "$sha256"
  fi
done <<<"$table"
