#!/usr/bin/env bash
# Makes a virtual environment with the peers that compare_cpu.py times, at today's versions:
#
#   bench/peers/make_environment.sh [DIR=build/peers]
#
# Needs the network, about 6 GB and ten minutes. Exit status: 0; 4 something essential cannot be installed.
# LiteRT's converter holds PyTorch back by a version; what is newest for everyone else is put back afterwards.
set -euo pipefail
cd "$(dirname "$0")"
case "${1:-}" in -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
folder=${1:-../../build/peers}
[ -x "$folder/bin/pip" ] || python3 -m venv "$folder" ||
  { echo "make_environment: no venv; Debian: python3-venv" >&2; exit 4; }
pip() { "$folder/bin/pip" --quiet --disable-pip-version-check "$@"; }
pip install -r requirements.txt || exit 4
newest=$(pip freeze | grep -E '^(torch|torchvision)==')
if pip install litert-torch; then
  # Says that the converter asks for an older one; it works with the newer.
  # shellcheck disable=SC2086
  pip install $newest || exit 4
else
  echo "make_environment: LiteRT's converter cannot be installed: LiteRT is left out" >&2
fi
echo "make_environment: compare_cpu.py --python $folder/bin/python"
