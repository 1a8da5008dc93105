#!/usr/bin/env bash
# Searches settings of a model on the validation part and writes what it found; the same command again
# goes on where it stopped. For example:
#   launch/tune.sh --dataset=synthetic --model=dlf --trials=20
#   launch/tune.sh --dataset=frappe --model=dlf --trials=60 --files=FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh tune
exec python -m dlf_jax.tune "$@"
