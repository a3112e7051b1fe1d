"""Whether two members of a sweep want one folder for different results: told before the first of them starts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clp_transfer.cli.schema import to_config
from clp_transfer.cli.stages import JOBS
from clp_transfer.cli.sweep import key, variant_of
from clp_transfer.config.folders import init_folder, root
from clp_transfer.config.schema import Config
from clp_transfer.errors import UserError

WRITE_NOTHING = ("plan", "status", "cancel")
MISTAKES = (UserError, HydraException, OmegaConfBaseException)


def refuse_clashes(stage: str, config: Any) -> None:
    """Raise UserError where a sweep's members would overwrite each other, or differ in what one start was made with.

    `config`: the composed config of the sweep's command, Hydra's part included. A member whose own config is wrong says
    so itself when it is its turn.
    """
    # By the folder and what it is to them: the first member that wants it, and what it wants there.
    first: dict[tuple[str, Path], tuple[list[str], Any]] = {}
    with _silent():
        for overrides in _members(config):
            try:
                composed = compose(stage, overrides=overrides)
                wanted = _wanted(stage, replace(to_config(composed), variant=variant_of(stage, overrides)))
            except MISTAKES:
                continue
            for what, folder, content in wanted:
                others, other = first.setdefault((what, folder.absolute()), (overrides, content))
                if other != content:
                    raise _clash(stage, what, folder, others, overrides, composed)


def _members(config: Any) -> list[list[str]]:
    """Every member's overrides, as Hydra's own sweeper makes them; none where it will tell a mistake itself."""
    if not config.hydra.sweeper._target_.endswith(".BasicSweeper"):
        return []
    given = [f"{name}={value}" for name, value in (config.hydra.sweeper.params or {}).items()]
    try:
        # Unresolved: a name made of what is swept over is another one for each member.
        task: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        parsed = OverridesParser.create().parse_overrides([*given, *task])
        return [list(one) for batch in BasicSweeper.split_arguments(parsed, None) for one in batch]
    except HydraException:
        return []


def _wanted(stage: str, config: Config) -> list[tuple[str, Path, Any]]:
    """The folders of a member: whether it writes or starts from it, where it is, and what determines its content."""
    if stage in WRITE_NOTHING:
        return []
    if stage not in JOBS:
        return [("write", root(config), replace(config, cluster=Config().cluster))]
    job = JOBS[stage](config)
    found = [("write", Path(job.out), job)]
    if stage == "train" and job.model == init_folder(config):  # which clp.py has made with one method's options
        found.append(("start from", job.model, config.method))
    return found


def _clash(stage: str, what: str, folder: Path, one: list[str], other: list[str], composed: Any) -> UserError:
    both = " and ".join(" ".join(o for o in mine if o not in theirs) for mine, theirs in ((one, other), (other, one)))
    varied = [key(o) for o in other if o not in one]
    value = next((f"-${{{k}}}" for k in varied if isinstance(OmegaConf.select(composed, k), str | int | float)), None)

    def such_as(start: str) -> str:
        return f", such as '{start}{value}'" if value else ""

    if what == "start from":
        return UserError(
            f"members of this sweep would be the same run: {both} both {what} {folder}",
            f"make a start for each with clp.py and its out=, and name it here with model={such_as(f'model={folder}')}",
        )
    setting, start = ("out", folder) if stage == "clp" else ("name", composed.name)
    return UserError(
        f"members of this sweep would overwrite each other: {both} both {what} {folder}",
        f"give each another {setting}={such_as(f'{setting}={start}')}, or run them one by one with that",
    )


@contextmanager
def _silent() -> Iterator[None]:
    """What is logged on the way to a job is logged again when the member runs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
