#!/usr/bin/env bash
# Trains in several processes on this machine, as several machines would; each takes its share of the
# devices. One process alone uses all devices by itself: this is for trying out and for machines where a
# process per device is wanted. For example:
#   launch/processes.sh 2 --config=configs/synthetic.py --workdir=/tmp/run
set -euo pipefail
cd "$(dirname "$0")/.."
# Without an extra; this script's own arguments are not its.
source launch/environment.sh ""
count="${1:?how many processes}"
shift
port="${PORT:-$((20000 + RANDOM % 10000))}"
pids=()
# A signal goes to all of them; they save and stop at the same step.
trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM INT
for ((i = 0; i < count; i++)); do
  python -m dlf_jax.main "$@" --config.distributed.coordinator="localhost:$port" \
    --config.distributed.processes="$count" --config.distributed.process="$i" &
  pids+=($!)
done
status=0
for pid in "${pids[@]}"; do
  ended=0
  wait "$pid" || ended=$?
  # A signal ends the waiting early, while the process is still saving.
  while kill -0 "$pid" 2>/dev/null; do
    ended=0
    wait "$pid" || ended=$?
  done
  [ "$ended" = 0 ] || status="$ended"
done
exit "$status"
