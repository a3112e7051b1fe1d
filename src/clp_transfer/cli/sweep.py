"""Members of a `-m` sweep run in processes of their own: threads, GPU memory and W&B runs are never shared."""

from __future__ import annotations

import logging
import subprocess
import sys

from clp_transfer.pipeline.process import die_with_parent

log = logging.getLogger(__name__)

# These already have their place in a run's name; every other override makes a variant.
NAMED = ("experiment", "name", "run", "method", "seed")


def run_member(overrides: list[str]) -> None:
    """Run this script again with one member's overrides, and its variant so that runs do not overwrite each other.

    A member that fails is reported; the others go on.
    """
    extra = [o for o in overrides if o.partition("=")[0].lstrip("+~") not in NAMED]
    variant = ",".join(o.lstrip("+") for o in sorted(extra)).replace("/", "_")
    command = [sys.executable, sys.argv[0], *overrides]
    if variant:
        command.append(f"variant='{variant}'")
    log.info("— %s", " ".join(overrides))
    status = subprocess.run(command, preexec_fn=die_with_parent).returncode
    if status:
        log.error("this member of the sweep failed (status %d): %s", status, " ".join(overrides))
