#!/usr/bin/env bash
# Installs what the build needs from Debian's packages, and only what is missing.
#
#   install_deps.sh [--tests | --aarch64]
#     --tests: also what single tests want: Chromium to look at the study's page, clang-format to hold the
#     sources to their format, and where there is an nvcc without nvdisasm and cuobjdump those of PyPI, into build/;
#     --aarch64: also what tools/test.sh --aarch64 wants
set -euo pipefail
cd "$(dirname "$0")/.."

# The kernels' gates read machine code. Without it, and without pip or a network, those tests are left out.
install_disassembler() {
  local nvcc program
  nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null) || return 0
  for program in nvdisasm cuobjdump; do
    ! command -v $program "$(dirname "$nvcc")/$program" build/$program/nvidia/*/bin/$program >/dev/null || continue
    echo "install_deps: fetching $program from PyPI"
    python3 -m pip install --quiet --no-deps --target build/$program nvidia-cuda-$program ||
      echo "install_deps: no $program: the machine code of kernels is not looked at" >&2
  done
}
[ "${1:-}" != "--tests" ] || install_disassembler

packages=(g++ cmake ninja-build ccache pkg-config libdnnl-dev libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev
          nlohmann-json3-dev libfmt-dev libstb-dev libjpeg62-turbo-dev libspng-dev libopenmpi-dev
          openmpi-bin)
[ "${1:-}" = "--tests" ] && packages+=(chromium clang-format-14 xz-utils)
[ "${1:-}" = "--aarch64" ] && packages+=(g++-aarch64-linux-gnu qemu-user)
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "install_deps: this is not a Debian system; please install: ${missing[*]}" >&2
  exit 4
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install_deps: not root and no sudo; please install: ${missing[*]}" >&2; exit 4; }
  as_root=(sudo)
fi
echo "install_deps: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
# Of another Debian's packages not all may be there; those that single tests want may be absent.
if [ "${1:-}" = "--tests" ] && ! apt-cache show clang-format-14 >/dev/null 2>&1; then
  missing=("${missing[@]/clang-format-14/}")
fi
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends ${missing[@]} >/dev/null
