#!/usr/bin/env bash
# Sets up a virtual environment and runs the tests, a file at a time on each of two processes.
# Arguments go to pytest in place of these: launch/test.sh tests/models -k dlf
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh test
if [ $# = 0 ]; then
  set -- --numprocesses=2 --dist=loadfile
fi
exec python -m pytest "$@"
