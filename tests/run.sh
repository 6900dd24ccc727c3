#!/usr/bin/env bash
# The test command of the README: installs what the tests need, then runs every check.
# Works on a fresh machine; on a prepared one it goes straight to the checks.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ ! -x .venv/bin/python ]; then
  "${PYTHON:-python3}" -m venv .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  if [ "$(id -u)" -ne 0 ]; then
    echo "The browser tests need Chromium. Install it (Debian: sudo apt-get install chromium)." >&2
    exit 1
  fi
  apt-get update --quiet=2
  apt-get install --quiet=2 --yes --no-install-recommends chromium
fi

.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
