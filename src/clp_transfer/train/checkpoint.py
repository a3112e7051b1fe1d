"""Checkpoints that are whole or absent, so that a killed run goes on as if nothing had happened.

All ranks write into `step-N.partial`. Then each syncs and hashes its share of the files, rank 0 writes the marker
`complete.json` (progress, sizes, hashes) and renames the folder to `step-N`. So only a complete checkpoint has that
name, and the marker tells what was damaged since. The folder must be one that all nodes share.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from clp_transfer.errors import UserError
from clp_transfer.files import sha256_file, write_json
from clp_transfer.train import state, universal
from clp_transfer.train.together import WriteFailed, gather, on_main, rank, ranks, together

log = logging.getLogger(__name__)

MARKER = "complete.json"
PARTIAL, DELETED = ".partial", ".old"
MOST_THREADS = 8


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps done, seconds spent, how much of metrics.jsonl belongs to them, and the ranks.

    `state`: what else must go on exactly, as JSON values by name (the running mean of the loss).
    """

    step: int = 0
    seconds: float = 0.0
    metrics_bytes: int = 0
    world_size: int = 1
    state: dict[str, Any] = field(default_factory=dict)


def save(
    accelerator: Any,
    folder: Path,
    progress: Progress,
    written: Callable[[], int] | None = None,
    *,
    keep: int = 1,
    permanent: bool = False,
) -> bool:
    """Write `folder/step-N`; then all but the last `keep` go, and those saved as `permanent` stay. All ranks call it.

    `written` brings the metrics to the disk and says how many bytes there are, on rank 0, which the checkpoint records.
    False where the disk refuses: the partial checkpoint is removed, a warning says so, the older ones stay, and
    training may go on.
    """
    final = folder / f"step-{progress.step}"
    aside = folder / f"{final.name}{PARTIAL}"
    try:
        if written is not None:
            progress = replace(progress, metrics_bytes=on_main(written))
        if on_main(lambda: _begin(final, aside)):
            together(lambda: state.write(accelerator, aside))
            files = _seal(aside)
            marker = {"progress": asdict(progress), "permanent": permanent, "files": files}
            on_main(lambda: _publish(aside, final, marker))
        elif permanent:
            on_main(lambda: write_json(final / MARKER, _marker(final) | {"permanent": True}))
    except WriteFailed as error:
        on_main(lambda: shutil.rmtree(aside, ignore_errors=True))
        kept = on_main(lambda: latest(folder))
        _warn(f"{final} could not be saved ({error}); training goes on, the last checkpoint is {kept or 'none'}")
        return False
    on_main(lambda: _prune(folder, keep))
    return True


def latest(folder: Path) -> Path | None:
    """The last checkpoint with a marker and every file at its size; what is partial or damaged is passed over."""
    while True:
        there = _checkpoints(folder)
        whole = next((path for _, path in reversed(there) if _flaw(path) is None), None)
        if whole is not None or _checkpoints(folder) == there:
            return whole  # else the run that writes here has just replaced what was looked at


def resume(accelerator: Any, folder: Path) -> Progress:
    """Load the last undamaged checkpoint into the prepared objects; a fresh Progress where there is none.

    All ranks call it. Every file's hash is checked. What is partial or damaged is removed and named in a warning,
    and the one before it is taken. Another number of ranks than when it was saved is fine.
    """
    on_main(lambda: _clear(folder))
    while True:
        checkpoint = on_main(lambda: latest(folder))
        if checkpoint is None:
            return Progress()
        flaw = _damage(checkpoint)
        if flaw is None:
            break
        on_main(partial(_discard, checkpoint, flaw))
    progress = Progress(**_marker(checkpoint)["progress"])
    state.load(accelerator, checkpoint, progress.world_size)
    return progress


def _begin(final: Path, aside: Path) -> bool:
    """Make room for a checkpoint; False where the same step is there already, whole."""
    if _flaw(final) is None:
        return False
    for path in (final, aside):
        if path.exists():
            shutil.rmtree(path)
    aside.mkdir(parents=True)
    return True


def _publish(aside: Path, final: Path, marker: dict[str, Any]) -> None:
    write_json(aside / MARKER, marker)
    for path in [p for p in aside.rglob("*") if p.is_dir()] + [aside]:
        _sync(path)
    aside.rename(final)
    _sync(final.parent)


def _prune(folder: Path, keep: int) -> None:
    """Delete what is neither permanent nor among the last `keep`; what cannot be deleted is named in a warning."""
    passing = [path for _, path in _checkpoints(folder) if _flaw(path) is None and not _marker(path).get("permanent")]
    for path in passing[: -max(1, keep)]:
        try:
            _remove(path)
        except OSError as error:
            _warn(f"{path} is no longer needed, but cannot be deleted: {error}")


def _remove(path: Path) -> None:
    """Delete a checkpoint under another name: killed half-way, it is not taken for a damaged one."""
    gone = path.with_name(f"{path.name}{DELETED}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """All that bear a checkpoint's name, by step."""
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((int(m[1]), p) for p in paths if (m := re.fullmatch(r"step-(\d+)", p.name)))


def _clear(folder: Path) -> None:
    """Remove what a killed run left: partial checkpoints, damaged ones, and the rest of deleted ones."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.endswith(PARTIAL):
            _discard(path, "it is not complete: the run ended while it was being saved")
        elif path.name.endswith((DELETED, universal.SUFFIX)):
            shutil.rmtree(path, ignore_errors=True)
    for _, path in _checkpoints(folder):
        if (flaw := _flaw(path)) is not None:
            _discard(path, flaw)


def _discard(path: Path, flaw: str) -> None:
    _warn(f"{path} is left out and removed: {flaw}")
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        raise UserError(f"{path} is damaged ({flaw}) and cannot be removed", "remove it by hand")


def _marker(checkpoint: Path) -> dict[str, Any]:
    return json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def _flaw(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint by its marker and the sizes of its files; None where nothing is."""
    try:
        marker = _marker(checkpoint)
        expected = {name: entry["bytes"] for name, entry in marker["files"].items()}
        Progress(**marker["progress"])
    except FileNotFoundError:
        return f"it has no {MARKER}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MARKER} cannot be read ({error})"
    for name, size in expected.items():
        try:
            found = (checkpoint / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found:,} bytes instead of {size:,}"
    return None


def _seal(folder: Path) -> dict[str, dict[str, Any]]:
    """Sync every file to the disk and give its size and hash; every rank does a share of the bytes."""
    names = on_main(lambda: _by_size(folder))
    found = together(lambda: _sealed(folder, _share(names)))
    return {name: entry for part in gather(found) for name, entry in part.items()}


def _by_size(folder: Path) -> list[str]:
    """The files' names, the largest first: dealt out in turn, they make nearly equal shares."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return [str(p.relative_to(folder)) for p in sorted(paths, key=lambda p: (-p.stat().st_size, str(p)))]


def _share(names: list[str]) -> list[str]:
    return names[rank() :: ranks()]


def _sealed(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    paths = [folder / name for name in names]
    with _pool() as pool:
        synced = [pool.submit(_sync, path) for path in paths]  # the disk works while the processor hashes
        hashes = list(pool.map(sha256_file, paths))
        for done in synced:
            done.result()
    return {n: {"bytes": p.stat().st_size, "sha256": h} for n, p, h in zip(names, paths, hashes, strict=True)}


def _damage(checkpoint: Path) -> str | None:
    """Compare every file with its hash, each rank a share; what is wrong, or None.

    Raises UserError where a rank cannot read what rank 0 can: the nodes do not share the folder.
    """
    found = gather(_mismatches(checkpoint, _share))
    if not any(found):
        return None
    # The marker itself, which another rank may not see, is no file that it lists.
    named = {name for part in found for name in part} - {MARKER}
    bad = on_main(lambda: _mismatches(checkpoint, lambda _: sorted(named)))
    if bad:
        return f"{', '.join(bad)} differ{'s' if len(bad) == 1 else ''} from what was saved"
    number = next(i for i, part in enumerate(found) if part)
    raise UserError(
        f"rank {number} cannot read {checkpoint} as rank 0 does",
        "put paths.outputs on a file system that all nodes share",
    )


def _mismatches(checkpoint: Path, choose: Callable[[list[str]], list[str]]) -> list[str]:
    """Names, of those chosen, whose content is not what the marker says."""

    def differs(name: str) -> bool:
        try:
            return sha256_file(checkpoint / name) != files[name]["sha256"]
        except OSError:
            return True

    try:
        files = _marker(checkpoint)["files"]
    except (OSError, ValueError):
        return [MARKER]
    names = choose(sorted(files, key=lambda name: (-files[name]["bytes"], name)))
    with _pool() as pool:
        return [name for name, bad in zip(names, pool.map(differs, names), strict=True) if bad]


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(2, min(MOST_THREADS, os.cpu_count() or 1)))


def _sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _warn(message: str) -> None:
    if rank() == 0:
        log.warning(message)
