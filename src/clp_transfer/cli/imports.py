"""Keep the repository's root off the import path."""

from __future__ import annotations

import sys
from pathlib import Path


def drop_script_folder(root: Path) -> None:
    """Remove the root from `sys.path`: its evaluate.py and clp.py would shadow packages of those names.

    lm-evaluation-harness imports `evaluate` and would get our script, which would run a second time.
    """
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]
