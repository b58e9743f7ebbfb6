#!/usr/bin/env bash
# Installs what the build needs from Debian's packages, and only what is missing.
#
#   install_deps.sh [--browser]    --browser: also Chromium, in which a test looks at the study's page
set -euo pipefail

packages=(g++ cmake ninja-build ccache pkg-config libdnnl-dev libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev
          nlohmann-json3-dev libfmt-dev libstb-dev libopenmpi-dev openmpi-bin)
[ "${1:-}" = "--browser" ] && packages+=(chromium)
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
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
