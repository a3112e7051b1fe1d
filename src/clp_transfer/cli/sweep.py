"""Members of a `-m` sweep run in processes of their own: threads, GPU memory and W&B runs are never shared."""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys

from clp_transfer.errors import UserError
from clp_transfer.pipeline.process import die_with_parent

log = logging.getLogger(__name__)

# These already have their place in a run's name; every other override makes a variant.
NAMED = ("experiment", "name", "run", "method", "seed")
LONGEST = 120
failed: list[str] = []


def run_member(stage: str, overrides: list[str]) -> None:
    """Run this script again with one member's overrides, and its variant so that runs do not overwrite each other.

    A member that fails is remembered in `failed` and the others go on. Raises UserError for overrides that would
    make two members write the same folder: only a run's folder carries a variant.
    """
    extra = [o for o in overrides if o.partition("=")[0].lstrip("+~") not in NAMED]
    clashing = extra if stage not in ("train", "evaluate") else [o for o in extra if o.startswith("method.")]
    if clashing:
        raise UserError(
            f"members of this sweep would overwrite each other: {' '.join(clashing)} is no part of a folder's name",
            "sweep over name= as well, or run them one by one with a name= each",
        )
    command = [sys.executable, sys.argv[0], *overrides]
    if extra:
        command.append(f"variant='{variant(extra)}'")
    log.info("— %s", " ".join(overrides))
    status = subprocess.run(command, preexec_fn=die_with_parent).returncode
    if status:
        log.error("this member of the sweep failed (status %d): %s", status, " ".join(overrides))
        failed.append(" ".join(overrides))


def variant(overrides: list[str]) -> str:
    """A folder's suffix for these overrides: letters, digits and `.=,+-`, of bounded length."""
    text = re.sub(r"[^\w.=,+-]+", "_", ",".join(o.lstrip("+") for o in sorted(overrides)))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
