"""Find the runs below experiments' folders, for a comparison of any of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clp_transfer import manifest
from clp_transfer.clp.job import TRANSFERS
from clp_transfer.errors import UserError
from clp_transfer.files import read_json
from clp_transfer.report.job import ArmRun, ReportJob, ingredient
from clp_transfer.report.kept import bases_of

STAGES = ("runs", "init", "evaluations", "step0")
PARTIAL = ".partial"
NAME = re.compile(r"(?P<base>.+?)-seed(?P<seed>\d+)(?:,(?P<variant>.+))?")
TUNING = "tune-"  # the variants of `make tune`
HELPER = "helper"
ONE_OF_THEM = re.compile(rf"{HELPER},seed(?P<seed>\d+)")  # where every seed has a helper of its own
OTHERS = "an evaluation of a model that no run here made: it has no curve and no arm (see docs/report.md)"
NEEDED = ("metrics.jsonl", "summary.json")


@dataclass
class Experiment:
    """An experiment's folder, and which of its runs to take (`chosen` empty: all)."""

    root: Path
    name: str = ""
    chosen: set[str] = field(default_factory=set)


def find(paths: Sequence[Path], out: Path) -> ReportJob:
    """The report of everything below the given folders: experiments, single runs or evaluations, earlier reports.

    Where several experiments have arms of one name, every arm is called by its experiment and name. Where runs of a
    sweep have plain runs beside them they are left to the ablation table; where they have none they are arms. Raises
    UserError for a folder with no runs.
    """
    experiments, kept = _experiments(paths)
    found = {one.name: _runs(one) for one in experiments}
    arms = [run for runs, _ in found.values() for run in runs]
    if not any(not run.variant for run in arms):
        for run in arms:
            run.base, run.arm, run.variant = f"{run.base},{run.variant}", f"{run.arm},{run.variant}", ""
    apart = _clash(arms, kept)
    for run in arms:
        run.arm = f"{run.experiment}/{run.arm}" if apart else run.arm
    several = len(experiments) > 1
    data = {one.name: one.root / "data" for one in experiments if (one.root / "data/statistics.json").is_file()}
    first = next(iter(data.values()), out / "data")
    return ReportJob(
        name=", ".join([one.name for one in experiments] + list(kept)),
        out=out,
        data=first,
        more_data={name: path for name, path in data.items() if path != first},
        arms=arms,
        ingredients=dict(pair for one in experiments for pair in _ingredients(one)),
        step0=dict(pair for one in experiments for pair in _step0(one, several)),
        lost=[row for _, lost in found.values() for row in lost],
        kept=kept,
        apart=apart,
    )


def _experiments(paths: Sequence[Path]) -> tuple[list[Experiment], dict[str, Path]]:
    roots: dict[Path, Experiment] = {}
    kept: dict[str, Path] = {}
    for path in (Path(p).expanduser().resolve() for p in paths):
        if not path.exists():
            raise UserError(f"{path} does not exist", "give experiments' folders (outputs/mini), or folders of runs")
        if any((path / stage).is_dir() for stage in STAGES):
            roots[path] = Experiment(path)
        elif path.parent.name in STAGES[:3]:
            root = path.parent.parent
            one = roots.setdefault(root, Experiment(root, chosen={path.name.removesuffix(PARTIAL)}))
            if one.chosen:
                one.chosen.add(path.name.removesuffix(PARTIAL))
        elif _is_report(path / "results.json"):
            name = path.parent.name if path.name == "report" else path.name
            kept[name if name not in kept else f"{path.parent.name}/{name}"] = path / "results.json"
        else:
            raise UserError(
                f"{path} is no experiment, run, evaluation or report",
                f"give a folder that has one of {', '.join(s + '/' for s in STAGES)}, or a folder in one of them",
            )
    _name(list(roots.values()), set(kept))
    return list(roots.values()), kept


def _is_report(path: Path) -> bool:
    """Whether the file holds a report's numbers, of which some may be broken: that is told where they are read."""
    found = read_json(path) if path.is_file() else None
    return isinstance(found, dict) and "arms" in found


def _name(experiments: list[Experiment], taken: set[str]) -> None:
    """Each experiment's folder's name, with as many of the folders above as it takes to tell them apart."""
    for depth in range(1, 10):
        names = {one.root: "/".join(one.root.parts[-depth:]) for one in experiments}
        if len(set(names.values()) - taken) == len(experiments):
            break
    for one in experiments:
        one.name = names[one.root]


def _clash(arms: list[ArmRun], kept: dict[str, Path]) -> bool:
    """Whether arms of two experiments have one name."""
    homes = {(run.base, run.experiment) for run in arms if not run.variant}
    for name, path in kept.items():
        homes |= {(base, name) for base in bases_of(path)}
    return max(Counter(base for base, _ in homes).values(), default=0) > 1


def _runs(one: Experiment) -> tuple[list[ArmRun], list[dict[str, str]]]:
    """The finished target runs of an experiment, and what was begun but is not finished."""
    names = {
        path.name.removesuffix(PARTIAL)
        for stage in STAGES[:3]
        if (one.root / stage).is_dir()
        for path in (one.root / stage).iterdir()
        if path.is_dir() and not path.name.startswith(".")
    }
    # A run that was asked for by name is told of even where nothing of it is there.
    names = (names & one.chosen) | one.chosen if one.chosen else names
    arms, lost = [], []
    for name in sorted(names):
        match = NAME.fullmatch(name)
        if match is None and _is_there(one, "evaluations", name) and not _is_there(one, "runs", name):
            lost.append({"run": f"{one.name}: {name}", "reason": OTHERS})
        if match is None or (match["variant"] or "").startswith(TUNING):
            continue  # a source, a helper, a search for rates: no arm
        reason = _unfinished(one.root, name)
        if reason is not None:
            lost.append({"run": f"{one.name}: {name}", "reason": reason})
            continue
        arms.append(_arm(one.root, match, one.name))
    return sorted(arms, key=_order), lost


def _is_there(one: Experiment, stage: str, name: str) -> bool:
    return any((one.root / stage / found).is_dir() for found in (name, f"{name}{PARTIAL}"))


def _arm(root: Path, match: re.Match[str], experiment: str = "") -> ArmRun:
    base, seed, variant = match["base"], int(match["seed"]), match["variant"] or ""
    folders = (root / "runs" / match[0], root / "init" / f"{base}-seed{seed}", root / "evaluations" / match[0])
    return ArmRun(base, seed, *folders, experiment=experiment, base=base, variant=variant)


def sweeps(root: Path, plain: Sequence[ArmRun]) -> list[ArmRun]:
    """The finished runs of sweeps below an experiment, of the plain runs' arms and seeds: its ablations."""
    known = {(run.arm, run.seed) for run in plain}
    folders = sorted((root / "runs").glob("*-seed*,*"))
    matches = [match for path in folders if path.is_dir() and (match := NAME.fullmatch(path.name))]
    found = [_arm(root, match) for match in matches if not match["variant"].startswith(TUNING)]
    return [run for run in found if (run.arm, run.seed) in known and _unfinished(root, run.run.name) is None]


def _order(run: ArmRun) -> tuple[int, str, str, int]:
    known = ("scratch", *TRANSFERS)
    return (known.index(run.base) if run.base in known else len(known), run.base, run.variant, run.seed)


def _unfinished(root: Path, name: str) -> str | None:
    """Why a run cannot be compared; None where it is finished."""
    run, partial = root / "runs" / name, root / "runs" / f"{name}{PARTIAL}"
    if (run / manifest.NAME).is_file():
        listed = read_json(run / manifest.NAME).get("files", {})
        for needed in NEEDED:
            size = listed.get(needed, {}).get("bytes")
            if not (run / needed).is_file() or (size is not None and (run / needed).stat().st_size != size):
                return f"{run / needed} is missing, or not the file that its manifest lists"
        return None
    if partial.is_dir():
        return f"training is not finished{_progress(partial)}; the same command goes on from there"
    if run.is_dir():
        return f"{run} has no manifest: it was not finished"
    return f"there is no {run}: initialised or evaluated, but not trained here"


def _progress(partial: Path) -> str:
    """How far an unfinished run got, as its last record of metrics says."""
    lines = (partial / NEEDED[0]).read_bytes().splitlines() if (partial / NEEDED[0]).is_file() else []
    tokens = [int(n) for line in lines[-3:] for n in re.findall(rb'"tokens": (\d+)', line)]
    return f": at {tokens[-1]:,} tokens" if tokens else ""


def _ingredients(one: Experiment) -> Iterator[tuple[str, Path]]:
    runs = one.root / "runs"
    found = {name: runs / name for name in ("source", HELPER) if _is_finished(runs / name)}
    if HELPER not in found:
        seeds = {int(match["seed"]): path for path in runs.glob("*") if (match := ONE_OF_THEM.fullmatch(path.name))}
        found |= helpers({seed: path for seed, path in sorted(seeds.items()) if _is_finished(path)})
    for name, path in found.items():
        yield ingredient(one.name, name), path


def _is_finished(run: Path) -> bool:
    return (run / manifest.NAME).is_file()


def helpers(runs: Mapping[int, Path]) -> dict[str, Path]:
    """The ingredients of an experiment with a helper for every seed, in order: `helper` is the first of them.

    What an arm's helper cost is the first one's FLOPs, since all have one budget; the cost table has them all.
    """
    return {f"{HELPER},seed{seed}" if at else HELPER: path for at, (seed, path) in enumerate(runs.items())}


def _step0(one: Experiment, several: bool) -> Iterator[tuple[str, Path]]:
    for path in sorted((one.root / "step0").glob("*")):
        if (path / manifest.NAME).is_file() and not one.chosen:
            yield (f"{one.name}: {path.name}" if several else path.name), path
