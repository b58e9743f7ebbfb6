#!/usr/bin/env bash
# Collects what the build needs from this machine's Debian packages into a folder, so that the same tree also
# builds on a machine with no package registry:
#
#   tools/bundle_deps.sh [--out deps] [--without-onednn]     then, there:  cmake ... -DPLUME_DEPS_DIR=deps
#
# Headers, libraries and CMake packages keep their places under usr/. No links, no programs. oneDNN is 38 of
# the about 45 MB; without it the cpu device runs its plain loops. The compiler brings OpenMP.
# Exit status: 0; 2 wrong usage; 4 a package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

out=deps
onednn=1
while [ $# -gt 0 ]; do
  case "$1" in
    --out) [ $# -ge 2 ] || { echo "bundle_deps: --out needs a folder" >&2; exit 2; }; out=$2; shift 2 ;;
    --without-onednn) onednn=0; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "bundle_deps: unknown flag '$1'; --out DIR, --without-onednn" >&2; exit 2 ;;
  esac
done

packages=(libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev nlohmann-json3-dev libfmt-dev libstb-dev)
[ "$onednn" = 0 ] || packages+=(libdnnl-dev)
command -v dpkg-query >/dev/null || { echo "bundle_deps: this is not a Debian system" >&2; exit 4; }
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
    { echo "bundle_deps: $package is not installed; run tools/install_deps.sh" >&2; exit 4; }
done

# Only a folder made by this script is replaced.
if [ -e "$out" ] && [ ! -e "$out/.bundle" ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
  echo "bundle_deps: $out exists and is not a bundle" >&2
  exit 2
fi
work=$(mktemp -d "$(dirname "$out")/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Debian names the runtime library's package after its version: take it from the development package's
# dependencies.
mapfile -t runtimes < <(dpkg-query -W -f '${Depends}\n' "${packages[@]}" | tr ',' '\n' | sed 's/^ *//; s/[ (].*//' |
  grep -E '^lib(fmt|benchmark|dnnl)[0-9]' | sort -u)
# Debian's oneDNN is linked with the OpenCL loader, though the cpu engine never calls it.
[ "$onednn" = 0 ] || runtimes+=(ocl-icd-libopencl1)

for package in "${packages[@]}" "${runtimes[@]}"; do
  dpkg -L "$package" | while read -r file; do
    [ -f "$file" ] || continue
    case "$file" in
      */libstb.* | */libdnnl.so | */libdnnl.so.*.* | *FindOpenCL.cmake) continue ;;  # not used, or a second copy
      /usr/include/* | */cmake/* | */lib*.so | */lib*.so.* | */lib*.a) ;;
      *) continue ;;
    esac
    mkdir -p "$work/$(dirname "${file#/}")"
    cp -L "$file" "$work/${file#/}"
  done
done
find "$work" -name '*.so*' -exec strip --strip-unneeded {} + 2>/dev/null || true
dpkg-query -W -f '${Package} ${Version}\n' "${packages[@]}" "${runtimes[@]}" > "$work/.bundle"
chmod 755 "$work"

rm -rf "$out"
mv "$work" "$out"
trap - EXIT
echo "bundle_deps: $(du -sh "$out" | cut -f 1) in $out; build with -DPLUME_DEPS_DIR=$out"
