#!/usr/bin/env bash
# Downloads data sets from their official addresses, checks and unpacks them; needs the internet, curl or
# wget, and tar or unzip.
#
#   tools/fetch_data.sh [--out out/data] [--base URL] [cifar10|cifar100|tiny-imagenet ...]      none named:
#   all of them
#
# The folder is then what --data-dir wants. --base is a mirror that has archives of the same names. The
# archives stay, so that a second call has nothing to do; they may be removed. Exit status: 0; 2 wrong usage;
# 3 an archive is not what it should be; 4 no connection, tool or room.
set -euo pipefail
tool=fetch_data
# shellcheck source=tools/cli/download.sh
. "$(dirname "$0")/cli/download.sh"

# data set, address, archive, folder in it, SHA-256
table='
cifar10       https://www.cs.toronto.edu/~kriz cifar-10-binary.tar.gz  cifar-10-batches-bin c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd
cifar100      https://www.cs.toronto.edu/~kriz cifar-100-binary.tar.gz cifar-100-binary     58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec
tiny-imagenet http://cs231n.stanford.edu       tiny-imagenet-200.zip   tiny-imagenet-200    6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821
'
known=$(awk 'NF { print $1 }' <<<"$table" | tr '\n' ' ')

out=out/data
base=
sets=()
while [ $# -gt 0 ]; do
  case "$1" in
    --out | --base)
      [ $# -ge 2 ] || stop 2 "$1 needs a value"
      if [ "$1" = --out ]; then out=$2; else base=${2%/}; fi
      shift 2 ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) stop 2 "there is no flag $1; --out FOLDER, --base URL" ;;
    *)
      [[ " $known" == *" $1 "* ]] || stop 2 "there is no data set '$1'; data sets: $known"
      sets+=("$1")
      shift ;;
  esac
done
mkdir -p "$out" || stop 4 "$out: cannot be made"

# Into a folder of its own first: what has its name is complete.
unpack() { # archive, folder in it
  local scratch=$out/.unpacking
  if [ -e "$out/$2" ]; then
    echo "$out/$2: is there already"
    return
  fi
  rm -rf "$scratch"
  mkdir "$scratch"
  case "$1" in
    *.zip)
      command -v unzip >/dev/null || stop 4 "unzip is not installed"
      unzip -q "$1" -d "$scratch" || stop 4 "$1: cannot be unpacked into $scratch" ;;
    *) tar -xzf "$1" -C "$scratch" || stop 4 "$1: cannot be unpacked into $scratch" ;;
  esac
  [ -d "$scratch/$2" ] || stop 3 "$1: has no folder $2"
  mv "$scratch/$2" "$out/$2"
  rm -rf "$scratch"
  echo "$out/$2: unpacked"
}

while read -r name address archive folder sha256; do
  [ -n "$name" ] || continue
  if [ ${#sets[@]} -eq 0 ] || [[ " ${sets[*]} " == *" $name "* ]]; then
    fetch "${base:-$address}/$archive" "$out/$archive" "$sha256"
    unpack "$out/$archive" "$folder"
  fi
done <<<"$table"
