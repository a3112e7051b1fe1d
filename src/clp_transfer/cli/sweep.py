"""Members of a `-m` sweep run in processes of their own: threads, GPU memory and W&B runs are never shared.

A member notes its row below the experiment's `sweeps/`, so that it may be a job on another machine; the command that
started the sweep prints them as a table.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from clp_transfer.cli.sweep_table import Row, note
from clp_transfer.cluster.script import share
from clp_transfer.pipeline.process import die_with_parent

log = logging.getLogger(__name__)

# These already have their place in a run's name, or none in its result; every other override makes a variant.
NAMED = ("experiment", "name", "run", "method", "seed")
PLACES = ("cluster",)
VARIED = ("train", "evaluate")  # the stages whose folders have a variant
LONGEST = 120
GRACE_SECONDS = 60.0  # for a checkpoint


def run_member(stage: str, script: Path, composed: Any, overrides: list[str]) -> None:
    """Run the script again with one member's overrides, and its variant so that runs do not overwrite each other.

    A member that fails says so in its row and the others go on. That no two write the same folder was seen to before
    (`sweep_clashes`).
    """
    command = [*_start(stage, OmegaConf.to_object(composed.cluster)), str(script), *overrides]
    named = variant_of(stage, overrides)
    if named:
        command.append(f"variant='{named}'")
    log.info("— %s", " ".join(overrides))
    row, folder = Row(" ".join(overrides), stage), Path(composed.paths.outputs) / composed.name
    note(folder, row)
    started = time.time()
    row.status = _run(command)
    row.seconds = round(time.time() - started, 1)
    note(folder, row)
    if row.status:
        log.error("this member of the sweep failed (%s): %s", row.state, row.overrides)


def key(override: str) -> str:
    """What an override sets."""
    return override.partition("=")[0].lstrip("+~")


def variant_of(stage: str, overrides: list[str]) -> str:
    """What a member's folder is called beside its run's name; empty where nothing but that name tells it apart."""
    extra = [o for o in overrides if key(o) not in NAMED and key(o).partition(".")[0] not in PLACES]
    return variant(extra) if extra and stage in VARIED else ""


def _start(stage: str, cluster: Any) -> list[str]:
    """What starts the script: Python, or on a cluster's node as many ranks as it has GPUs."""
    ranks = share(stage, cluster).ranks if cluster.name == "slurm" and "SLURM_JOB_ID" in os.environ else 1
    if ranks == 1:
        return [sys.executable]
    return [sys.executable, "-m", "clp_transfer.cluster.ranks", "--standalone", "--nproc_per_node", str(ranks)]


def _run(command: Sequence[str]) -> int:
    """The exit status of a child, which has time to save where this process is asked to end."""
    child = subprocess.Popen(command, preexec_fn=_in_child)
    try:
        return child.wait()
    except BaseException:
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
        raise


def _in_child() -> None:
    die_with_parent()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # SLURM sends submitit's signal to every process of the job


def variant(overrides: list[str]) -> str:
    """A folder's suffix for these overrides: letters, digits and `.=,+-`, of bounded length."""
    text = re.sub(r"[^\w.=,+-]+", "_", ",".join(o.lstrip("+") for o in sorted(overrides)))
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST - 9]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
