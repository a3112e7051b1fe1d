"""What the scripts at the top call: Hydra in, one library call out."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

from clp_transfer.cli.environment import quieten_packages
from clp_transfer.cli.imports import drop_script_folder
from clp_transfer.cli.screen import one_screen


def main(stage: str) -> None:
    """Run one stage with the config that the command line asks for."""
    script = Path(sys.argv[0]).resolve()
    root = next(p for p in script.parents if (p / "configs").is_dir())
    drop_script_folder(root)
    added = next((a for a in sys.argv[1:] if a.startswith(("--local_rank", "--local-rank"))), None)
    if added is not None:  # Hydra would call it unrecognised
        sys.exit(_launcher_mistake(added))
    from hydra import main as hydra_main

    from clp_transfer.cli.quoting import quote_letters
    from clp_transfer.cli.schema import register

    register()
    sys.argv[1:] = quote_letters(sys.argv[1:])

    def task(composed: Any) -> Any:
        # Here as well as around Hydra, which would add its own lines to what reaches it.
        with one_screen():
            return run_stage(stage, script, composed)

    from clp_transfer.cli.sweep_table import lost_jobs

    try:
        with one_screen(), lost_jobs():
            hydra_main(version_base="1.3", config_path=str(root / "configs"), config_name=stage)(task)()
    finally:
        failed = _tell_sweep()
    gc.freeze()  # else Python looks through all that is left for circles before it ends: up to a second
    if failed:
        sys.exit(f"{failed} of the sweep's members failed; the same command runs only what is missing")


def _tell_sweep() -> int:
    """Print a row for every member of the sweep, if this was one; returns how many are not complete."""
    from clp_transfer.cli.sweep_table import rows, table

    found = rows()
    if found:
        print(f"\n{table(found)}", flush=True)
    return sum(row.status != 0 for row in found)


def _launcher_mistake(added: str) -> int:
    """Say that a launcher has added an argument of its own, and how not to; the exit status."""
    print(
        f"\nError: the launcher added {added}, which is no setting\n"
        "  What to do: use torchrun, accelerate launch, or deepspeed --no_local_rank",
        file=sys.stderr,
    )
    return 2


def run_stage(stage: str, script: Path, composed: Any) -> Any:
    """Turn the composed config into the stage's job and do it; in a sweep, in a process of its own."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from clp_transfer.cli.schema import to_config
    from clp_transfer.cli.screen import start_logging

    quieten_packages()
    start_logging()
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        from clp_transfer.cli.sweep import run_member

        return run_member(stage, script, composed, list(hydra_config.overrides.task))
    config = to_config(composed)
    overrides = list(hydra_config.overrides.task)
    if stage == "reproduce":
        from clp_transfer.cli.reproduce import reproduce

        return reproduce(config, overrides)
    if stage == "plan":
        from clp_transfer.cli.plan import plan

        return plan(config, overrides)
    if stage == "ablate":
        from clp_transfer.cli.ablate import ablate

        return ablate(config, overrides)
    if stage in ("submit", "status", "cancel"):
        from clp_transfer.cli import cluster

        return getattr(cluster, stage)(config, overrides)
    if stage == "tune":
        from clp_transfer.cli.tune import tune

        return tune(config, overrides)
    from clp_transfer.cli.stages import STAGES

    return STAGES[stage](config)
