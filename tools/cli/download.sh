# Shared by fetch_weights.sh and fetch_data.sh, which set $tool: downloads that can be resumed and are
# checked. shellcheck shell=bash
: "${tool:?}"

stop() { # exit code, message
  echo "$tool: $2" >&2
  exit "$1"
}

# Does the file's SHA-256 begin with this?
has_sha256() { # file, hex digits
  local found
  found=$(sha256sum <"$1")
  [[ $found == "$2"* ]]
}

# Downloads into FILE.part, going on where an earlier attempt stopped, checks it and gives it its name: what
# has its name has been checked. Returns at once when FILE is there and right.
fetch() { # address, file, SHA-256 or its first digits
  local address=$1 file=$2 sha256=$3 status=0 found
  if [ -e "$file" ]; then
    has_sha256 "$file" "$sha256" || stop 3 "$file: is there, but its SHA-256 does not begin with $sha256: remove it to \
download it again"
    echo "$file: is there already"
    return
  fi
  if ! { [ -e "$file.part" ] && has_sha256 "$file.part" "$sha256"; }; then
    echo "$address"
    if command -v curl >/dev/null; then
      curl --fail --location --show-error --progress-bar --retry 3 --connect-timeout 30 --continue-at - \
        --output "$file.part" "$address" || status=$?
    elif command -v wget >/dev/null; then
      wget --no-verbose --tries 3 --timeout 30 --continue --output-document "$file.part" "$address" || status=$?
    else
      stop 4 "neither curl nor wget is installed"
    fi
    if [ "$status" -ne 0 ]; then
      found="nothing has come"
      if [ -s "$file.part" ]; then found="what has come is in $file.part, a second call goes on there"; fi
      stop 4 "$address: the download failed (status $status); $found"
    fi
  fi
  if ! has_sha256 "$file.part" "$sha256"; then
    found=$(sha256sum <"$file.part")
    rm -f "$file.part"
    stop 3 "$address: what came has SHA-256 ${found%% *}, expected $sha256...: it is removed"
  fi
  mv "$file.part" "$file"
  echo "$file: SHA-256 is right"
}
