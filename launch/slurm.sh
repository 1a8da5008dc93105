#!/usr/bin/env bash
#SBATCH --job-name=dlf_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# A process per node, which uses all the node's GPUs. SLURM sends SIGTERM two minutes before the time is
# up (and when it preempts the job): the run saves and exits, and the same script goes on. The
# workdir and --data_dir must be on a file system that all nodes share. For example:
#   sbatch launch/slurm.sh --config=configs/criteo.py --workdir=/shared/run --data_dir=/shared/data
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}"
# Installed once, by hand: pip install -e '.[cuda12]' in the virtual environment VENV.
# shellcheck disable=SC1091
source "${VENV:-.venv}/bin/activate"
# JAX reads from SLURM's environment which processes there are.
srun --kill-on-bad-exit=1 python -m dlf_jax.main "$@" --config.distributed.coordinator=auto
