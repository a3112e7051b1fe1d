"""Which tasks there are: the paper's, in our files, and all of lm-evaluation-harness; groups taken apart."""

from __future__ import annotations

import difflib
import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError

TASKS = Path(__file__).parent / "tasks"
GROUPS = ("clp_german", "clp_german_modern")
# The miniature's task; it is nothing without the labels of an experiment (harness.py).
UNFINISHED = "clp_domains"
# What makes a row of one of our tasks besides its files.
CODE = ("calibrated.py", "task_model.py", "task_rows.py")


def expand(names: list[str]) -> list[str]:
    """The tasks of the names in their order, groups and tags replaced by their members, none twice.

    Raises UserError for a name that is no task, with the nearest names. Upstream's names are read (seconds) only
    where one is asked for.
    """
    found: dict[str, None] = {}
    for name in names:
        found.update(dict.fromkeys(_members(name)))
    return list(found)


def is_ours(name: str) -> bool:
    """Whether the task is one of our files."""
    return name in _ours() and name != UNFINISHED


def version(name: str) -> str:
    """What the numbers of a task depend on besides model and data, short: `1.0+<hash>`, or the harness's version.

    The hash covers the task's file, the files and functions that it shares with others, and the code of our rows.
    """
    harness = f"lm_eval {metadata.version('lm_eval')}"
    if not is_ours(name):
        return harness
    shared = [*TASKS.glob("_*.yaml"), *TASKS.glob("*.py"), *(Path(__file__).parent / file for file in CODE)]
    code = hashlib.sha256(harness.encode())
    for path in (TASKS / f"{name}.yaml", *sorted(shared)):
        code.update(path.read_bytes())
    return f"{_ours()[name].cfg['metadata']['version']}+{code.hexdigest()[:10]}"


def _members(name: str) -> list[str]:
    from lm_eval.tasks._index import Kind

    entry = None if name == UNFINISHED else _ours().get(name) or _upstream().get(name)
    if entry is None:
        raise UserError(f"there is no task {name!r}", f"did you mean {_nearest(name)}?")
    if entry.kind is Kind.TAG:
        return [member for tagged in sorted(entry.tags) for member in _members(tagged)]
    if entry.kind is not Kind.GROUP:
        return [name]
    members = []
    for member in entry.cfg["task"]:
        if not isinstance(member, str):
            raise UserError(f"the group {name} changes its members ({member})", "name the tasks that you want")
        members += _members(member)
    return members


def _nearest(name: str) -> str:
    ours = sorted(known for known in _ours() if known != UNFINISHED)
    near = difflib.get_close_matches(name, ours, 3) + difflib.get_close_matches(name, _upstream(), 3)
    return ", ".join(dict.fromkeys(near or ours))


@cache
def _ours() -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    return dict(TaskManager(include_path=TASKS, include_defaults=False).task_index)


def _upstream() -> dict[str, Any]:
    return dict(upstream().task_index)


@cache
def upstream() -> Any:
    """The harness's `TaskManager` of its own tasks, 14,000 names; made once."""
    from lm_eval.tasks import TaskManager

    return TaskManager()
