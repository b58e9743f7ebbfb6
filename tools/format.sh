#!/usr/bin/env bash
# Formats every C++ and CUDA source of the checkout in place.
#
#   format.sh [--check]    --check: changes nothing, names what is not formatted and exits with 1
#
# Exits with 77 where there is no clang-format 14, Debian 12's: others break lines elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

version=14
format=$(command -v clang-format-$version || command -v clang-format || true)
if [ -z "$format" ] || ! "$format" --version | grep -q "version $version\."; then
  echo "format: clang-format $version is not installed"
  exit 77
fi
mapfile -t files < <(find engine kernels models data tools bench tests -name '*.h' -o -name '*.cpp' -o -name '*.cu')
if [ "${1:-}" = "--check" ]; then
  "$format" --dry-run -Werror "${files[@]}"
else
  "$format" -i "${files[@]}"
fi
