#!/usr/bin/env bash
# The test command of the README: installs what the tests need, then runs every check.
# Works on a fresh machine; on a prepared one it goes straight to the checks.
#
#   bash tests/run.sh             everything but soak tests
#   bash tests/run.sh --quick     no real models, no browser, nothing slow; fewer examples
#   bash tests/run.sh -m browser  a selection: all arguments go to pytest, and only tests run
set -euo pipefail
cd "$(dirname "$0")/.."

# Two workers and the next run would each compile all tests and the engine again without it.
unset PYTHONDONTWRITEBYTECODE

quick=false
if [ "${1:-}" = --quick ]; then
  quick=true
  shift
fi

if [ ! -x .venv/bin/python ]; then
  "${PYTHON:-python3}" -m venv .venv
fi
# Asking pip takes seconds even when there is nothing to do, so it is asked again only after a change.
if ! cat pyproject.toml constraints.txt | cmp --silent - .venv/installed; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    --editable '.[test]' --constraint constraints.txt
  cat pyproject.toml constraints.txt >.venv/installed
fi

if ! $quick && ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "The browser tests need Chromium. Install it (Debian: sudo apt-get install chromium)." >&2
    exit 1
  fi
  apt-get update --quiet=2
  apt-get install --quiet=2 --yes --no-install-recommends chromium
fi

# One worker a core, each with one thread: all of them compute for most of the time, so that more are
# no faster (four on two cores took 29 minutes where two took 28). At most four, as each grows to 4 GB. A file
# stays in one of them, so that what its tests share is made once; `conftest.py` orders the files.
cores=$(.venv/bin/python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')
workers=$((cores < 4 ? cores : 4))
pytest=(.venv/bin/python -m pytest --numprocesses "$workers" --dist loadfile --no-loadscope-reorder)

if $quick; then
  pytest+=(-m "not real and not browser and not slow and not soak" --hypothesis-profile quick)
elif [ $# -gt 0 ]; then
  exec "${pytest[@]}" "$@"
fi

.venv/bin/ruff format --check .
.venv/bin/ruff check .

# Types take a core for a while, so they are checked beside the tests and reported after them.
types=$(mktemp)
trap 'rm -f "$types"' EXIT
.venv/bin/mypy >"$types" 2>&1 &
mypy=$!

failed=0
"${pytest[@]}" "$@" || failed=$?
wait "$mypy" || failed=$?
cat "$types"
exit "$failed"
