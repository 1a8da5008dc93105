#!/usr/bin/env bash
# Makes the virtual environment of the peer, FuxiCTR, in the folder given or in ~/.cache/dlf_jax/peer.
set -euo pipefail
folder="${1:-$HOME/.cache/dlf_jax/peer}"
if [ ! -x "$folder/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$folder"
fi
pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
# First, so that nothing pulls in the build for GPUs. A "+cpu" build, where the index has one, is taken
# with TORCH=torch==2.13.0+cpu.
"${pip[@]}" "${TORCH:-torch==2.13.0}"
# FuxiCTR does not bound polars, and breaks with its newer versions.
"${pip[@]}" 'fuxictr==2.3.10' 'polars>=1.0,<1.30'
"$folder/bin/python" -c 'import fuxictr, ray, torch; print("fuxictr", fuxictr.__version__, "torch", torch.__version__)'
