"""Environment variables that packages read when they are imported."""

from __future__ import annotations

import os
from pathlib import Path


def quieten_packages() -> None:
    """No progress bars among our lines, no search for a GPU that is not there; what the user has set stays."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("WANDB_SILENT", "true")
    if not Path("/dev/nvidiactl").exists():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
