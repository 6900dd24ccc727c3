"""Reports known vulnerabilities of the installed packages, found by pip-audit."""

import importlib.util
import json
import subprocess
import sys
from typing import Any

_SECONDS = 300


def audit() -> dict[str, Any]:
    """Run pip-audit if it is installed, and count the packages it could look up.

    Returns:
        `audited` and `not_audited` packages, `vulnerable` ones with their advisories and fixed
        versions, and `said`, a summary sentence.
    """
    if importlib.util.find_spec("pip_audit") is None:
        return _nothing("pip-audit is not installed, so nothing was audited: pip install pip-audit")
    # By this interpreter, so that it audits this environment.
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    try:
        # No check: it exits with 1 if it finds vulnerabilities.
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _nothing(f"No advisory source answered in {_SECONDS} s: nothing was audited.")
    return read_audit(done.stdout, done.stderr)


def read_audit(printed: str, errors: str = "") -> dict[str, Any]:
    """Summarise pip-audit's JSON output; without any, quote the last line of its errors."""
    try:
        packages = json.loads(printed)["dependencies"]
    except (ValueError, KeyError, TypeError):
        *_, last = ("it does not say why", *errors.strip().splitlines())
        return _nothing(f"pip-audit failed and nothing was audited: {last}")
    # Skipped ones, unknown to every source, must not look sound.
    audited = [package for package in packages if "skip_reason" not in package]
    vulnerable = {
        f"{package['name']} {package['version']}": [
            {"advisory": found["id"], "fixed_in": found["fix_versions"]}
            for found in package["vulns"]
        ]
        for package in audited
        if package["vulns"]
    }
    skipped = len(packages) - len(audited)
    if not audited:
        return _nothing(
            f"No advisory source knows any of {skipped} packages, as behind a mirror without "
            "advisories: nothing was audited. Run it where the internet can be reached."
        )
    said = f"{len(vulnerable)} of {len(audited)} packages have known vulnerabilities."
    if skipped:
        said += f" {skipped} could not be audited."
    return {
        "said": said,
        "audited": len(audited),
        "not_audited": skipped,
        "vulnerable": vulnerable,
    }


def _nothing(said: str) -> dict[str, Any]:
    return {"said": said, "audited": 0, "not_audited": None, "vulnerable": {}}
