#!/usr/bin/env bash
# Collects what the build needs from this machine's Debian packages into a folder, so that the same tree also
# builds on a machine with no package registry:
#
#   tools/bundle_deps.sh [--out deps] [--without-onednn] [--arch arm64]
#   then, there:  cmake ... -DPLUME_DEPS_DIR=deps
#
# Headers, libraries and CMake packages keep their places under usr/. No links, no programs. oneDNN is 38 of
# the about 45 MB; without it the cpu device runs its plain loops. The compiler brings OpenMP. --arch takes
# another architecture's packages from the network, for a cross-build; this system is left as it is.
# Exit status: 0; 2 wrong usage; 4 a package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

out=deps
onednn=1
arch=
while [ $# -gt 0 ]; do
  case "$1" in
    --out) [ $# -ge 2 ] || { echo "bundle_deps: --out needs a folder" >&2; exit 2; }; out=$2; shift 2 ;;
    --arch) [ $# -ge 2 ] || { echo "bundle_deps: --arch needs a value" >&2; exit 2; }; arch=$2; shift 2 ;;
    --without-onednn) onednn=0; shift ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "bundle_deps: unknown flag '$1'; --out DIR, --without-onednn, --arch NAME" >&2; exit 2 ;;
  esac
done

packages=(libgtest-dev libgmock-dev libbenchmark-dev libcli11-dev nlohmann-json3-dev libfmt-dev libstb-dev)
[ "$onednn" = 0 ] || packages+=(libdnnl-dev)
command -v dpkg-query >/dev/null || { echo "bundle_deps: this is not a Debian system" >&2; exit 4; }

out=$(realpath -m -- "$out")  # apt takes relative paths from /

# Only a folder made by this script is replaced.
if [ -e "$out" ] && [ ! -e "$out/.bundle" ] && [ -n "$(ls -A "$out" 2>/dev/null)" ]; then
  echo "bundle_deps: $out exists and is not a bundle" >&2
  exit 2
fi
work=$(mktemp -d "$(dirname "$out")/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT

# What a package says about itself, and where its files lie: installed here, or unpacked under $elsewhere.
elsewhere=
if [ -z "$arch" ]; then
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' ||
      { echo "bundle_deps: $package is not installed; run tools/install_deps.sh" >&2; exit 4; }
  done
  depends() { dpkg-query -W -f '${Depends}\n' "$1"; }
  version() { dpkg-query -W -f '${Package} ${Version}\n' "$1"; }
  files() { dpkg -L "$1"; }
else
  # apt with a state of its own, as it would be on a machine of that architecture with nothing installed.
  elsewhere=$work/.apt
  mkdir -p "$elsewhere"/{lists/partial,cache/archives/partial,root}
  touch "$elsewhere/status"
  of_arch=(-q -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o "Dir::State=$elsewhere"
           -o "Dir::State::lists=$elsewhere/lists" -o "Dir::State::status=$elsewhere/status"
           -o "Dir::Cache=$elsewhere/cache" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
           -o APT::Sandbox::User=)
  apt-get "${of_arch[@]}" update >/dev/null || { echo "bundle_deps: no list of $arch's packages" >&2; exit 4; }
  unpack() {
    (cd "$elsewhere" && apt-get "${of_arch[@]}" download "$1" >/dev/null && mv "$1"_*.deb "$1.deb" &&
      dpkg-deb -x "$1.deb" root) || { echo "bundle_deps: $1 for $arch is not to be had" >&2; exit 4; }
  }
  for package in "${packages[@]}"; do unpack "$package"; done
  depends() { dpkg-deb -f "$elsewhere/$1.deb" Depends; }
  version() { dpkg-deb -W --showformat='${Package} ${Version}\n' "$elsewhere/$1.deb"; }
  files() { dpkg-deb --fsys-tarfile "$elsewhere/$1.deb" | tar -t | sed 's/^\.//'; }
fi

# Debian names the runtime library's package after its version: take it from the development package's
# dependencies.
mapfile -t runtimes < <(for package in "${packages[@]}"; do depends "$package"; done | tr ',' '\n' |
  sed 's/^ *//; s/[ (].*//' | grep -E '^lib(fmt|benchmark|dnnl)[0-9]' | sort -u)
# Debian's oneDNN is linked with the OpenCL loader, though the cpu engine never calls it.
[ "$onednn" = 0 ] || runtimes+=(ocl-icd-libopencl1)
[ -z "$arch" ] || for package in "${runtimes[@]}"; do unpack "$package"; done

root=${elsewhere:+$elsewhere/root}
for package in "${packages[@]}" "${runtimes[@]}"; do
  files "$package" | while read -r file; do
    case "$file" in
      */libstb.* | */libdnnl.so | */libdnnl.so.*.* | *FindOpenCL.cmake) continue ;;  # not used, or a second copy
      /usr/include/* | */cmake/* | */lib*.so | */lib*.so.* | */lib*.a) ;;
      *) continue ;;
    esac
    [ -f "$root$file" ] || continue
    mkdir -p "$work/$(dirname "${file#/}")"
    cp -L "$root$file" "$work/${file#/}"
  done
done
for package in "${packages[@]}" "${runtimes[@]}"; do version "$package"; done | sort > "$work/.bundle"
[ -z "$elsewhere" ] || rm -rf "$elsewhere"
[ -n "$arch" ] || find "$work" -name '*.so*' -exec strip --strip-unneeded {} + 2>/dev/null || true
chmod 755 "$work"

rm -rf "$out"
mv "$work" "$out"
trap - EXIT
echo "bundle_deps: $(du -sh "$out" | cut -f 1) in $out; build with -DPLUME_DEPS_DIR=$out"
