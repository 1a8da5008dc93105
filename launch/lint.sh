#!/usr/bin/env bash
# Runs the linters, as CI and pre-commit do: all of them, or those that are named. For example:
#   launch/lint.sh
#   launch/lint.sh ruff types
set -euo pipefail
cd "$(dirname "$0")/.."

ruff_() { ruff check .; }
format_() { ruff format --check .; }
shellcheck_() { shellcheck --severity=warning launch/*.sh benchmarks/*.sh .ci/run; }
types_() { mypy; }

linters=(ruff format shellcheck types)
if [ "${1:-}" = --list ]; then
  printf '%s\n' "${linters[@]}"
  exit
fi
if [ $# = 0 ]; then
  set -- "${linters[@]}"
fi
for linter in "$@"; do
  if [[ " ${linters[*]} " != *" $linter "* ]]; then
    echo "error: $linter: no such linter; known: ${linters[*]}" >&2
    exit 2
  fi
done
source launch/environment.sh test
# All of them run, so that one failure does not hide the next.
failed=()
for linter in "$@"; do
  "${linter}_" || failed+=("$linter")
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "error: failed: ${failed[*]}" >&2
  exit 1
fi
