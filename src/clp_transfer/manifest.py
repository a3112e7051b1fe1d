"""What makes a stage's output complete: a manifest, written last, of its settings, inputs and files.

A stage first states its `Plan`: the settings and input hashes that determine the output. The output folder
is complete when its manifest has the plan's key and lists files that are all there. So an unchanged stage is
skipped, a changed one runs again, and whatever was interrupted is never taken for complete.
"""

from __future__ import annotations

import fnmatch
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.files import locked, publish, read_json, sha256_json, sync_tree, write_json
from clp_transfer.hashes import hash_files
from clp_transfer.made_with import provenance

NAME = "manifest.json"
FINISHING = 600.0  # seconds that another process may take to bring a finished result to the disk
MOST_CHANGES, SHOWN = 6, 60


@dataclass(frozen=True)
class Plan:
    """What a stage would make, known before any of it is computed.

    `settings` holds all that changes the result (JSON values); `inputs` maps a name to a content hash.
    """

    stage: str
    out: Path
    settings: dict[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Hash of everything that determines the output."""
        return sha256_json({"stage": self.stage, "settings": self.settings, "inputs": dict(self.inputs)})

    @property
    def lock(self) -> Path:
        """The file whose lock the writer holds."""
        return self.out.with_name(f".{self.out.name}.lock")

    @property
    def working(self) -> Path:
        """Where the output grows before it is renamed to `out`."""
        return self.out.with_name(f"{self.out.name}.partial")


def read(folder: Path) -> dict[str, Any] | None:
    """The manifest of a complete folder, else None (no manifest, or a listed file missing or resized)."""
    path = folder / NAME
    if not path.is_file():
        return None
    manifest = read_json(path)
    if not isinstance(manifest, dict) or not {"stage", "key", "files"} <= manifest.keys():
        return None  # a file of that name, but not ours
    for name, entry in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            return None
    return manifest


def is_complete(plan: Plan) -> bool:
    """Whether the plan's output stands, whole and made from the same settings and inputs.

    A result that was finished when its process died, but not yet renamed, is renamed now. Where its writer, or another
    rank that asks the same, is just about to do so, that is waited for.
    """
    until = time.monotonic() + FINISHING
    while _holds(plan.working, plan) and time.monotonic() < until:
        try:
            with locked(plan.lock):
                if _holds(plan.working, plan):
                    _finish(plan)
        except UserError:
            time.sleep(0.1)
    return _holds(plan.out, plan)


def _holds(folder: Path, plan: Plan) -> bool:
    manifest = read(folder)
    return manifest is not None and manifest["key"] == plan.key


def is_done(job: Any, plan: Plan) -> bool:
    """Whether there is nothing left to do for a stage's job: the output of its plan is complete, and nothing in it
    failed that is tried again (`has_failed_tasks()`, where a job has that: an evaluation).
    """
    failed: Callable[[], bool] = getattr(job, "has_failed_tasks", lambda: False)
    return is_complete(plan) and not failed()


def digest(folder: Path, *patterns: str) -> str:
    """Content hash of a folder's files (all, or those matching a pattern), from its manifest where it has one.

    Raises UserError where the folder, or any file that matches, does not exist.
    """
    return promised_digest(folder, *patterns)()


def promised_digest(folder: Path, *patterns: str) -> Callable[[], str]:
    """`digest` in two steps: it raises now, and reads the files when the function it returns is called."""
    owner, manifest = next(((p, m) for p in (folder, *folder.parents) if (m := read(p))), (None, None))
    if owner and manifest:
        inside = "" if owner == folder else f"{folder.relative_to(owner)}/"
        known = {
            name.removeprefix(inside): entry["sha256"]
            for name, entry in manifest["files"].items()
            if name.startswith(inside)
        }
    else:
        known = dict.fromkeys(_names(folder))
    chosen = {n: h for n, h in known.items() if not patterns or any(fnmatch.fnmatch(n, p) for p in patterns)}
    if not chosen:
        raise UserError(
            f"{folder} has no finished {' or '.join(patterns) or 'files'}",
            "run the stage that makes it first (make reproduce runs them all in order)",
        )
    if owner and manifest:
        return lambda: sha256_json(chosen)
    return lambda: sha256_json(dict(zip(chosen, hash_files([folder / n for n in chosen]).values(), strict=True)))


def _names(folder: Path) -> list[str]:
    """Every file of a folder that has no manifest (a model the user brought)."""
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return [str(path.relative_to(folder)) for path in found if path.is_file()]


def refuse_another(plan: Plan) -> None:
    """Raise UserError where another plan's result, or the beginning of it, stands where this one's would."""
    for folder, name in ((plan.out, NAME), (plan.working, "plan.json")):
        record = read_json(folder / name) if (folder / name).is_file() else None
        if isinstance(record, dict) and record.get("key") not in (None, plan.key):
            changes = [
                *_changes(record.get("settings", {}), plan.settings),
                *_changes(record.get("inputs", {}), dict(plan.inputs)),
            ]
            raise UserError(
                f"{folder} was made with other settings or files:\n    " + "\n    ".join(changes[:MOST_CHANGES]),
                "choose another name= to keep both, or replace it with overwrite=true",
            )


def _changes(there: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two trees of JSON values, a line each."""
    if isinstance(there, dict) and isinstance(now, dict):
        keys = [*there, *(key for key in now if key not in there)]
        return [line for key in keys for line in _changes(there.get(key), now.get(key), f"{where}.{key}".lstrip("."))]
    return [] if there == now else [f"{where}: {str(there)[:SHOWN]} there, {str(now)[:SHOWN]} now"]


@contextmanager
def writing(plan: Plan, temporary: str | None = None, *, afresh: bool = False) -> Iterator[Path]:
    """Give a working folder; when the block ends well, add the manifest and rename it to `plan.out`.

    What an interrupted run of the *same* plan left in the working folder is kept, so that a stage may go on from it;
    what another plan left is deleted, and everything for a stage that begins `afresh`. The subfolder `temporary`
    (checkpoints) is no part of the result, but stays until the manifest is written: until then the stage may still
    need it.
    """
    with locked(plan.lock):
        working, marker = plan.working, plan.working / "plan.json"
        if working.exists() and (afresh or not (marker.is_file() and read_json(marker).get("key") == plan.key)):
            shutil.rmtree(working)
        working.mkdir(parents=True, exist_ok=True)
        if not afresh:  # nobody goes on from it, and its inputs may still be being hashed
            write_json(marker, {"key": plan.key, "settings": plan.settings, "inputs": dict(plan.inputs)})
        started = time.time()
        try:
            yield working
            write_json(working / NAME, _manifest(plan, started, temporary))
        except BaseException:
            if afresh:
                shutil.rmtree(working, ignore_errors=True)
            raise
        _finish(plan)


def _finish(plan: Plan) -> None:
    """Delete what the finished folder's manifest does not list, then rename the folder.

    First what it lists goes to the disk: until then, the checkpoints are all there is.
    """
    sync_tree(plan.working)
    kept = {plan.working / name for name in read_json(plan.working / NAME)["files"]} | {plan.working / NAME}
    for path in [p for p in plan.working.rglob("*") if p.is_file() and p not in kept]:
        path.unlink()
    for path in sorted((p for p in plan.working.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()
    publish(plan.working, plan.out)


def _manifest(plan: Plan, started: float, temporary: str | None) -> dict[str, Any]:
    left_out = {plan.working / NAME, plan.working / "plan.json"}
    files = sorted(p for p in plan.working.rglob("*") if p.is_file() and p not in left_out)
    if temporary is not None:
        files = [p for p in files if not p.is_relative_to(plan.working / temporary)]
    return {
        "stage": plan.stage,
        "key": plan.key,
        "settings": plan.settings,
        "inputs": dict(plan.inputs),
        "files": {
            str(p.relative_to(plan.working)): {"bytes": p.stat().st_size, "sha256": h}
            for p, h in hash_files(files).items()
        },
        "seconds": round(time.time() - started, 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "provenance": provenance(),
    }
