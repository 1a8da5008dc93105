#!/usr/bin/env bash
# Trains on a Cloud TPU slice: the same command on each of its VMs, which find each other. The workdir
# and --data_dir must be on storage that all VMs share. For example:
#   TPU=my-pod ZONE=us-central2-b launch/tpu.sh --config=configs/criteo.py --workdir=/mnt/run --data_dir=/mnt/data
# The project's folder is copied to the VMs first; a preempted run goes on with the same command.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${TPU:?name of the TPU}" "${ZONE:?its zone}"
on_all=(--zone="$ZONE" --worker=all)
gcloud compute tpus tpu-vm scp --recurse "${on_all[@]}" dlf_jax configs launch pyproject.toml setup.py \
  setup.cfg README.md LICENSE "$TPU:dlf_jax"
arguments="$(printf '%q ' "$@")"
gcloud compute tpus tpu-vm ssh "$TPU" "${on_all[@]}" --command "
  cd dlf_jax && source launch/environment.sh tpu &&
  exec python -m dlf_jax.main $arguments --config.distributed.coordinator=auto"
