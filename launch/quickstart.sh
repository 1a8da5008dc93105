#!/usr/bin/env bash
# From nothing to a result: sets up a virtual environment, trains DLF on the embedded synthetic data,
# evaluates it and prints the result, within a minute. Arguments go to the training; for example, for
# longer training and a higher AUC:
#   launch/quickstart.sh --config.training.epochs=4
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh ""
workdir="${WORKDIR:-$(mktemp -d)/quickstart}"
python -m dlf_jax.main --config=configs/synthetic.py --workdir="$workdir" "$@"
echo "the run is in $workdir" >&2
