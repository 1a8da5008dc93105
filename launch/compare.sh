#!/usr/bin/env bash
# Trains models side by side, over seeds, and writes a table and plots; the same command again goes on
# where it stopped. For example:
#   launch/compare.sh --dataset=synthetic --models=dlf,mlp --seeds=3
#   launch/compare.sh --dataset=frappe --models=all --seeds=5 --files=FOLDER
#   launch/compare.sh --experiment=table2 --files=FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh plots,baselines
exec python -m dlf_jax.compare "$@"
