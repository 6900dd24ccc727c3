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

# List all installed parts as CycloneDX (`pip install cyclonedx-bom`)
sbom:
    cyclonedx-py environment .venv --pyproject pyproject.toml --output-file bom.json

# Send generated requests to all routes of `dnd serve --schema` (`pip install schemathesis`)
requests url="http://127.0.0.1:7860":
    st run {{url}}/openapi.json --checks not_a_server_error --phases fuzzing

# Rewrite docs/licences.md (`pip install pip-licenses`)
licences:
    (printf '# Licences of the packages that the app installs\n\nWritten by `just licences`. [NOTICE.md](../NOTICE.md) lists what is embedded.\n\n' \
        && pip-licenses --python {{python}} --no-version --format markdown \
        --packages $({{python}} -m tests.test_packaging --needed)) >docs/licences.md

# Serve the app
serve *args:
    .venv/bin/dnd serve {{args}}
