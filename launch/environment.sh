# shellcheck shell=bash disable=SC1091
# Sourced by the other scripts: makes .venv (or takes $VENV), installs dlf_jax with the extra named
# by the first argument where it is not there yet, and activates it.
venv="${VENV:-.venv}"
extra="${1:-}"
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
source "$venv/bin/activate"
# Installed again only when the list of packages changes.
stamp="$venv/.installed-${extra:-plain}"
if ! cmp -s pyproject.toml "$stamp"; then
  python -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}"
  cp pyproject.toml "$stamp"
  # An extra comes on top of what all need.
  cp pyproject.toml "$venv/.installed-plain"
fi
# Large pages for large arrays: on a CPU a step spends a third of its time on page faults without.
export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
