#!/usr/bin/env bash
# Registers, shared memory, stack and spills of every kernel, as ptxas reports them.
#
# usage: tools/kernel_report.sh [--sass FOLDER [--objects FOLDER]] [kernels/x.cu ...]      (default: all)
#   --sass FOLDER   also writes the machine code with its source lines there, FOLDER/x.sm_90.sass, for `profile
#                   --sass` (tools/machine_code/machine_code.h says how); what is newer than its sources is kept,
#                   and no table printed. The file `complete` lies there once all kernels do
#   --objects FOLDER  with --sass: nothing is compiled; the machine code is that of the objects x.cu.o there, which
#                   a build made (build/developer/CMakeFiles/plume_cuda.dir/cuda)
#   ARCHS="80 90"   architectures (with --sass: 90)      JOBS=...   compilations at once
#   NVCC=...        compiler      NVDISASM=..., CUOBJDUMP=...   of the toolkit, or of PyPI's nvidia-cuda-*
# Exit status: 0; 1 when a kernel spills registers; 2 when a file does not compile; 77 when a program is missing.
set -u -o pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
NVCC=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
sass="" objects=""
if [ "${1:-}" = "--sass" ]; then
  [ $# -ge 2 ] || { echo "kernel_report: --sass wants a folder" >&2; exit 2; }
  sass=$2
  shift 2
  ARCHS=${ARCHS:-90}
  if [ "${1:-}" = "--objects" ]; then
    [ $# = 2 ] && [ -d "$2" ] || { echo "kernel_report: --objects wants a folder, and no sources" >&2; exit 2; }
    objects=$(realpath "$2")
    shift 2
  fi
fi
ARCHS=${ARCHS:-80 90}
JOBS=${JOBS:-$(nproc)}
if ! command -v "$NVCC" > /dev/null; then
  echo "kernel_report: no nvcc found (set NVCC)" >&2
  exit 77
fi
# A program of the toolkit or, where the toolkit lacks it, of PyPI's package.
find_program() {
  command -v "$1" || command -v "$(dirname "$(realpath "$(command -v "$NVCC")")")/$1" ||
    ls -d "$root"/build/"$1"/nvidia/*/bin/"$1" 2>/dev/null | tail -n 1
}
want_program() {
  command -v "${2:-$1}" > /dev/null && return
  echo "kernel_report: no $1 found (set ${1^^}; the toolkit has it, and so has" \
    "python3 -m pip install --target build/$1 nvidia-cuda-$1)" >&2
  exit 77
}
if [ -n "$sass" ]; then
  NVDISASM=${NVDISASM:-$(find_program nvdisasm)}
  want_program nvdisasm "$NVDISASM"
fi
if [ -n "$objects" ]; then
  CUOBJDUMP=${CUOBJDUMP:-$(find_program cuobjdump)}
  want_program cuobjdump "$CUOBJDUMP"
fi
demangle=$(command -v cu++filt || command -v "$(dirname "$NVCC")/cu++filt" || command -v c++filt || echo cat)

files=()
for file in "$@"; do files+=("$(realpath "$file")"); done
if [ -n "$objects" ]; then
  files=("$objects"/*.cu.o)
elif [ ${#files[@]} = 0 ]; then
  files=("$root"/kernels/*.cu)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The demangled name, without return type, parameters and the namespaces that all kernels share.
short_names() {
  sed -E "${1:-}"'{s/\bvoid //; s/\(anonymous namespace\)::|<unnamed>:://g; s/plume::cuda_kernels:://g; s/plume:://g
          s/\((int|unsigned int|bool)\)//g; s/\(.*$//}'
}

# One output per file and architecture: <stem>.<arch>.log
compile() {
  local file=$1 arch=$2 log
  log="$work/$(basename "$file" .cu).$arch.log"
  if ! "$NVCC" -I "$root" -std=c++20 --expt-relaxed-constexpr -O3 -arch="sm_$arch" -lineinfo \
    -DPLUME_KERNELS=cuda_kernels -DPLUME_KERNEL_DEVICE=cuda -Xptxas -v -cubin -MD -MF "$log.d" -o "$log.cubin" \
    "$file" > "$log" 2>&1; then
    { echo "kernel_report: $file does not compile for sm_$arch"; cat "$log"; } >&2
    touch "$work/failed"
  fi
}

# Is the file newer than all that it was made from? They are named in the file beside it.
is_fresh() {
  local made_from
  [ -e "$1" ] && [ -e "$1.d" ] || return 1
  for made_from in $(cat "$1.d") "$root/tools/kernel_report.sh"; do
    [ "$1" -nt "$made_from" ] || return 1
  done
}

# The same out of a build's object. cuobjdump says of a function "REG:96 STACK:0 SHARED:1024 ..."; from sm_90 on
# 1024 of the shared bytes are the system's. Spills are not told apart from other local memory here; the build
# refuses them.
extract() {
  local object=$1 arch=$2 log folder
  log="$work/$(basename "$object" .cu.o).$arch.log"
  folder="$log.elf"
  mkdir "$folder"
  if ! (cd "$folder" && "$CUOBJDUMP" -arch "sm_$arch" -xelf all "$object" > /dev/null) ||
    ! mv "$folder"/*.cubin "$log.cubin" || ! "$CUOBJDUMP" -res-usage "$log.cubin" > "$log.usage"; then
    echo "kernel_report: $object has no code for sm_$arch" >&2
    touch "$work/failed"
    return
  fi
  awk -v kept=$((arch >= 90 ? 1024 : 0)) '
    $1 == "Function" { name = $2; sub(/:$/, "", name) }
    $1 ~ /^REG:/ {
      for (i = 1; i <= NF; ++i) { split($i, part, ":"); value[part[1]] = part[2] }
      printf "Compiling entry function \047%s\047\n%d bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n",
             name, value["STACK"]
      printf "Used %d registers, %d bytes smem\n", value["REG"], value["SHARED"] - kept
    }' "$log.usage" > "$log"
  printf 'object: %s\n' "$object" > "$log.d"
}

# nvdisasm's listing, a tenth as long: "K registers shared stack spilled kernel", "P file" and "C n chain" number
# files and chains of file:line (the innermost first) as they come, ":label", "chain instruction".
disassemble() {
  local file=$1 arch=$2 name to log
  name=$(basename "${file%.o}" .cu)
  to="$sass/$name.sm_$arch.sass"
  ! is_fresh "$to" || return 0
  if [ -n "$objects" ]; then extract "$file" "$arch"; else compile "$file" "$arch"; fi
  log="$work/$name.$arch.log"
  [ -e "$log.cubin" ] || return 0
  "$NVDISASM" -c -gi "$log.cubin" > "$log.listing" || { touch "$work/failed"; return 0; }
  usage "$log" | tr '/' '\t' |
    awk -v root="$root/" '
      function flush_chain(  key) {
        if (chain == "") return
        key = chain
        chain = ""
        if (!(key in chains)) { chains[key] = ++chain_count; print "C " chain_count " " key }
        at = chains[key]
      }
      FNR == NR { used[$1] = $3 " " $4 " " $5 " " ($6 + $7); next }
      /^\t\/\/## File/ {
        split($0, part, "\"")
        file = part[2]
        line = part[3]
        sub(/^, line /, "", line)
        sub(/ .*/, "", line)
        if (index(file, root) == 1) file = substr(file, length(root) + 1)
        sub(/^\.\//, "", file)
        if (!(file in files)) { files[file] = ++file_count; print "P " file }
        chain = chain (chain == "" ? "" : " ") files[file] ":" line
        next
      }
      /^\.section|^\t\.section/ {
        name = $2
        sub(/^\.text\./, "", name)
        sub(/,.*/, "", name)
        next
      }
      /^[^ \t.\/].*:$/ {
        label = substr($0, 1, length($0) - 1)
        if (label in used) { print "K " used[label] " " label; delete chains; chain_count = 0; at = 0; chain = "" }
        else print ":" label
        next
      }
      /^\.L_/ { print ":" substr($0, 1, length($0) - 1); next }
      /^ +\/\*[0-9a-f]+\*\// {
        flush_chain()
        sub(/^ +\/\*[0-9a-f]+\*\/ +/, "")
        sub(/ *;.*$/, "")
        gsub(/ +/, " ")
        print at " " $0
      }' - "$log.listing" | "$demangle" | short_names "/^K /" > "$to.part" && mv "$to.part" "$to"
  sed 's/^[^:]*://; s/\\$//' "$log.d" > "$to.d"
  rm -f "$log.listing" "$log.cubin"
}

# ptxas -v: "Compiling entry function 'X' for 'sm_90'", then "N bytes stack frame, N bytes spill stores, N
# bytes spill loads", then "Used N registers, used N barriers, N bytes smem, ..."
usage() {
  local log=$1
  awk -v arch="${log%.log}" '
    BEGIN { sub(/.*\./, "", arch) }
    /Compiling entry function/ { split($0, part, "\047"); name = part[2]; stack = stores = loads = 0 }
    /bytes stack frame/ {
      for (i = 1; i <= NF; ++i) {
        if ($(i + 2) == "stack") stack = $i
        if ($(i + 3) == "stores,") stores = $i
        if ($(i + 3) == "loads") loads = $i
      }
    }
    /Used [0-9]+ registers/ {
      registers = shared = 0
      for (i = 1; i <= NF; ++i) {
        if ($i == "Used") registers = $(i + 1)
        if ($(i + 2) ~ /^smem/) shared = $i
      }
      if (name != "") print name "\t" arch "\t" registers "\t" shared "\t" stack "\t" stores "/" loads
      name = ""
    }' "$log"
}
export -f compile extract usage is_fresh disassemble short_names
export NVCC NVDISASM CUOBJDUMP root work sass objects demangle
work_on() {
  for file in "${files[@]}"; do
    for arch in $ARCHS; do printf '%s\0%s\0' "$file" "$arch"; done
  done | xargs -0 -n 2 -P "$JOBS" bash -c "$1 \"\$1\" \"\$2\"" _
  [ ! -e "$work/failed" ] || exit 2
}
if [ -n "$sass" ]; then
  mkdir -p "$sass"
  [ $# -gt 0 ] || rm -f "$sass/complete"
  work_on disassemble
  if [ $# = 0 ]; then
    # What is left of kernels that are gone, or of the other way of making it.
    for arch in $ARCHS; do
      for old in "$sass"/*."sm_$arch".sass; do
        name=$(basename "$old" ".sm_$arch.sass").cu
        [[ " ${files[*]} " == *"/$name"[\ .]* ]] || rm -f "$old" "$old.d"
      done
    done
    touch "$sass/complete"
  fi
  exit 0
fi
work_on compile
for log in "$work"/*.log; do usage "$log"; done > "$work/rows"

cut -f 1 "$work/rows" | "$demangle" | short_names > "$work/names"
paste "$work/names" <(cut -f 2- "$work/rows") | sort |
  awk -F '\t' '
    BEGIN { printf "%-64s | %4s | %9s | %6s | %5s | %s\n", "kernel", "arch", "registers", "shared", "stack", "spill stores/loads" }
    { printf "%-64s | %4s | %9s | %6s | %5s | %s\n", $1, $2, $3, $4, $5, $6; split($6, s, "/"); if (s[1] + s[2] > 0) ++spills }
    END { printf "%d kernels, %d with spills\n", NR, spills; exit spills > 0 }'
