#!/usr/bin/env bash
# Builds the documentation into build/docs/html, or the folder that is given; any warning, such as a
# link to nothing or a name without documentation, is an error. Needs no network once it is installed.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh docs
output="${1:-build/docs/html}"
# Pages of modules that are gone would stay.
rm -rf docs/reference
python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet \
  --builder html --doctree-dir build/docs/doctrees docs "$output"
echo "open $output/index.html" >&2
