"""With what a result was made: the code's commit, the packages' versions, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "deepspeed", "lm_eval", "numpy")


@cache
def provenance() -> dict[str, Any]:
    """Which code, packages and machine: git revision, versions, processor, Python."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "git": _git_revision(),
        "packages": versions,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def _git_revision() -> str:
    """The checkout's commit, with `+changes` where the tree differs from it; `unknown` outside git."""
    if frozen := os.environ.get("CLP_TRANSFER_REVISION"):  # the copy that a cluster's jobs run is no checkout
        return frozen
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
