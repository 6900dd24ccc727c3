# Shortcuts for the commands of CONTRIBUTING.md; `just` lists them.

python := ".venv/bin/python"

[private]
default:
    @just --list

# Lint, types and the quick tests
quick *args:
    bash tests/run.sh --quick {{args}}

# Everything, as CI runs it
test *args:
    bash tests/run.sh {{args}}

# Format, and apply the fixes that are safe
fix:
    .venv/bin/ruff format .
    .venv/bin/ruff check --fix .

# Rewrite the pages and files that are made from code
docs:
    {{python}} -m tests.test_cli_reference
    {{python}} tests/test_packaging.py

# Open the app
serve *args:
    {{python}} app.py {{args}}
