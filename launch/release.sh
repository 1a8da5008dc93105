#!/usr/bin/env bash
# Makes a release's files in dist/ (or the folder that is given), checks them, tries the wheel in a clean
# environment outside the checkout, and prints what to upload; it uploads nothing.
#   launch/release.sh
# Before: set `__version__` in dlf_jax/__init__.py, date its section in CHANGELOG.md, run .ci/run, commit.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/environment.sh release
output="$(realpath --canonicalize-missing "${1:-dist}")"

if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  echo "warning: files here are not committed; what is built holds them" >&2
fi
version="$(python -c 'import dlf_jax; print(dlf_jax.__version__)')"
section="$(grep --max-count=1 --fixed-strings "## [${version%%.dev*}]" CHANGELOG.md)" || {
  echo "error: CHANGELOG.md: no section '## [${version%%.dev*}]'; write what the release changes" >&2
  exit 1
}
ready=1
if [[ "$version" == *dev* || ! "$section" =~ [0-9]{4}-[0-9]{2}-[0-9]{2} ]]; then
  ready=0
fi

# An old file would be checked, and perhaps uploaded, with the new ones.
rm -f "$output"/dlf_jax-*
# The wheel is built from the sdist, so an incomplete sdist is noticed.
python -m build --outdir "$output" . >&2
python -m twine check --strict "$output/dlf_jax-$version"* >&2

clean="$(mktemp -d)"
trap 'rm -rf "$clean"' EXIT
"${PYTHON:-python3}" -m venv "$clean/venv"
"$clean/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$output/dlf_jax-$version"-*.whl
# -P and the other folder: the installed package, not the one of the checkout.
cd "$clean"
env --unset=PYTHONPATH venv/bin/python -P -m dlf_jax.main --dataset=synthetic --config.dataset.rows=3000 \
  --config.model.name=mlp '--config.model.hidden=(8,)' --config.model.embedding_size=4 \
  --config.training.batch_size=256 --config.training.epochs=2 --workdir=run --data_dir=data >result.json
env --unset=PYTHONPATH venv/bin/python -P - "$version" <<'CHECK' >&2
import json, sys
import dlf_jax
assert dlf_jax.__version__ == sys.argv[1], f'{dlf_jax.__file__} is version {dlf_jax.__version__}'
auc = json.load(open('result.json'))['valid']['auc']
assert 0.4 < auc <= 1, f'the wheel trained to an AUC of {auc}'
print(f'the wheel trains outside the checkout: AUC {auc:.4f}')
CHECK

(cd "$output" && sha256sum "dlf_jax-$version"*)
if [ "$ready" = 1 ]; then
  echo "upload: git tag v$version && git push origin v$version && python -m twine upload $output/dlf_jax-$version*" >&2
else
  echo "not to be uploaded: version $version, and the section in CHANGELOG.md is '$section'; a release" \
    "has a version without dev and a section with its date" >&2
fi
