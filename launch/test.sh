#!/usr/bin/env bash
# Sets up a virtual environment and runs the tests; arguments go to pytest (`-m slow` for the slow ones).
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh test
exec python -m pytest "${@:--m not slow}"
