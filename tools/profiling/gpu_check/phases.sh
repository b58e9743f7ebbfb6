# Sourced by tools/gpu_check.sh: phases that share one span of time, and the report after each of them.

# phase NAME SHARE COMMAND...: runs it for at most SHARE seconds (of 9 minutes in all, in proportion for others)
# (no less than 15) and what earlier phases have left of theirs, within what is left of the whole time. The log goes to
# logs/NAME.log; one line of name, status, seconds to phases.tsv. A command that exits with 77 is skipped.
saved=0 running=
phase() {
  local name=$1 share=$(($2 * minutes * 60 / 540)) left=$((deadline - SECONDS)) started=$SECONDS limit status code injected
  shift 2
  [ "$share" -ge 15 ] || share=15
  limit=$((share + saved))
  [ "$limit" -le "$left" ] || limit=$left
  injected=$(injection_of "$name")
  if [ "$limit" -le 0 ]; then
    printf '%s\t%s\t0\n' "$name" "no time left" >> "$logs/phases.tsv"
    echo "== $name: no time left"
    return 1
  fi
  case $injected in
    fail) set -- bash -c 'echo "made to fail"; exit 3' ;;
    hang) limit=2; set -- sleep 600 ;;
  esac
  export phase_seconds=$limit
  # In the background, so that a signal to this script is heard at once.
  timeout --kill-after=5 "$limit" bash -c '"$@"' phase "$@" > "$logs/$name.log" 2>&1 < /dev/null &
  running=$! phase_name=$name phase_started=$started
  wait "$running"
  code=$?
  running=
  saved=$((share + saved - (SECONDS - started)))
  [ "$saved" -ge 0 ] || saved=0 running=
  case $code in
    0) status=ok ;;
    77) status=skipped ;;
    124 | 137) status="over its limit of $limit s" ;;
    *) status="failed ($code)" ;;
  esac
  printf '%s\t%s\t%s\n' "$name" "$status" $((SECONDS - started)) >> "$logs/phases.tsv"
  echo "== $name: $status, $((SECONDS - started)) s"
  if [ "$status" != ok ]; then tail -n 5 "$logs/$name.log" | cut -c 1-300 | sed 's/^/   /'; fi
  write_report
  [ "$code" = 0 ] || [ "$code" = 77 ]
}

# NAME=fail and NAME=hang, by --inject.
injection_of() {
  local one
  for one in $injections; do [ "${one%%=*}" != "$1" ] || echo "${one#*=}"; done
}

# The phase at hand counts with what it has written.
stop() {
  trap '' TERM INT HUP
  if [ -n "$running" ]; then
    kill "$running" 2>/dev/null
    printf '%s\tstopped\t%s\n' "$phase_name" $((SECONDS - phase_started)) >> "$logs/phases.tsv"
  fi
  write_report
  echo "gpu_check: stopped after $SECONDS s; the report is in $out" >&2
  exit 143
}

# What there is so far: a run that is killed leaves all but its last phase.
write_report() {
  if [ -n "$reporter" ]; then
    "$reporter" bench/peers/gpu_report.py --logs "$logs" --out "$out" --gpu "$gpu" --driver "$driver" \
      --commit "$commit" --bundle "$work/bundle/bundle.json" > "$logs/report.log" 2>&1 || { cat "$logs/report.log" >&2; return 1; }
  fi
  tar -C "$(dirname "$logs")" -czf "$out/.logs.tar.gz" logs 2>/dev/null && mv "$out/.logs.tar.gz" "$out/logs.tar.gz"
}
