#!/usr/bin/env bash
# From nothing to a result: sets up a virtual environment, trains DLF on the embedded synthetic data,
# evaluates it and prints the result. Arguments go to the training, for example --config.seed=3.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh ""
workdir="${WORKDIR:-$(mktemp -d)/quickstart}"
python -m dlf_jax.main --config=configs/synthetic.py --workdir="$workdir" "$@"
echo "the run is in $workdir" >&2
