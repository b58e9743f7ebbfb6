# Sourced by tools/gpu_check.sh: which programs run here, and with which libraries.

# The folders of the GPU's libraries where the loader would not find them: beside the toolkit, or in Python's
# packages.
gpu_library_folders() {
  local library folder found=
  for library in libcudnn.so.9 'libcublasLt.so.1[23]' 'libcupti.so.1[23]'; do
    for folder in "${CUDNN_ROOT:-/nonexistent}/lib" /usr/local/cuda/{lib64,lib,extras/CUPTI/lib64} $(python_package_folders); do
      compgen -G "$folder/$library" > /dev/null || continue
      case ":$found:" in *":$folder:"*) ;; *) found=$found${found:+:}$folder ;; esac
      break
    done
  done
  echo "$found"
}
python_package_folders() {
  [ -n "$reporter" ] || return 0
  "$reporter" -c 'import glob, sysconfig; print(*glob.glob(sysconfig.get_paths()["purelib"] + "/nvidia/*/lib"))' 2>/dev/null
}

# run/NAME starts NAME of folder $1 with its libraries; the spare ones only where it does not start without.
make_runners() {
  local programs=$1 libraries=$2 extra= name
  [ "$rehearsal" = 0 ] || extra="PLUME_CUDA_PLUGIN='$libraries/libplume_cuda_stand_in.so' PLUME_STAND_IN_GUARD=0"
  [ "$rehearsal" = 1 ] && [ ! -e "$libraries/libplume_cuda_stand_in.so" ] &&
    { echo "$libraries has no stand-in for a GPU"; return 1; }
  local path="$libraries:$libraries/stand_in:$(gpu_library_folders)"
  [ "$rehearsal" = 1 ] || path="$libraries:$(gpu_library_folders)"
  if ! LD_LIBRARY_PATH=$path "$programs/train" --help > /dev/null 2>&1; then path=$path:$libraries/spare; fi
  rm -rf "$bin"
  mkdir -p "$bin"
  for name in "$programs"/*; do
    [ -x "$name" ] && [ -f "$name" ] || continue
    cat > "$bin/$(basename "$name")" << RUNNER
#!/bin/sh
exec env LD_LIBRARY_PATH='$path' PLUME_SOURCE_DIR='$PWD' $extra '$name' "\$@"
RUNNER
    chmod +x "$bin/$(basename "$name")"
  done
  # Opens the device: an architecture that the plug-in lacks, or a library that is missing, is said here.
  "$bin/profile" --device cuda --list-variants > "$logs/variants.txt" || return
  echo "runs from $programs with $path"
}

unpack_bundle() {
  [ -e "$bundle" ] || { echo "no bundle at $bundle (tools/gpu_bundle.sh makes one)"; return 1; }
  rm -rf "$work/bundle" && mkdir -p "$work/bundle" || return
  if command -v xz >/dev/null; then
    tar -C "$work/bundle" -xf "$bundle" || return
  else
    [ -n "$reporter" ] || { echo "neither xz nor Python here"; return 1; }
    "$reporter" -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$bundle" "$work/bundle" || return
  fi
  cat "$work/bundle/bundle.json"
  make_runners "$work/bundle/bin" "$work/bundle/lib"
}

# Only where the bundle does not run: the kernels, the programs and the operations' tests.
build_here() {
  local options=(-S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DPLUME_BENCH=ON -DPLUME_TESTS=ON -DPLUME_WERROR=OFF)
  local targets=(train evaluate profile time_model ops_test) go_on=-k
  [ "$rehearsal" = 1 ] && targets+=(cuda_host) || targets+=(plume_cuda)
  [ -e "$build/CMakeCache.txt" ] || { command -v ninja >/dev/null && options+=(-G Ninja); }
  [ -z "$deps" ] || options+=("-DPLUME_DEPS_DIR=$deps")
  if [ "$rehearsal" = 0 ]; then
    [ -z "${CUDACXX:-}" ] && ! command -v nvcc >/dev/null && export CUDACXX=/usr/local/cuda/bin/nvcc
    options+=(-DPLUME_CUDA=ON "-DCMAKE_CUDA_ARCHITECTURES=${capability:-90}-real")
  fi
  cmake "${options[@]}" || return
  ! grep -q 'CMAKE_GENERATOR:INTERNAL=Ninja' "$build/CMakeCache.txt" || go_on=-k0
  cmake --build "$build" -j "$jobs" --target "${targets[@]}" -- "$go_on"
  make_runners "$(realpath "$build/bin")" "$(realpath "$build/lib")"
}
