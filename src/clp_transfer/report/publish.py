"""Keep an experiment's numbers in the repository, and rebuild README, docs and figures from what is kept.

python -m clp_transfer.report.publish outputs/mini results/mini     keep the numbers and the figures, then rebuild
python -m clp_transfer.report.publish                               rebuild everything from results/
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from clp_transfer.ablations import publish as ablations
from clp_transfer.cli.screen import one_screen
from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json, write_text
from clp_transfer.report import german
from clp_transfer.report.keep import keep_report, keep_rest
from clp_transfer.report.readme import rebuilt_readme
from clp_transfer.report.records import point

ABLATIONS = "mini-ablations"


def rebuild(root: Path) -> list[Path]:
    """Make every table and figure below `root` (a checkout) anew from its `results/`; returns what was written.

    Raises UserError, before any document is written, for one with a broken mark (report/marks.py).
    """
    results = root / "results"
    texts: dict[Path, Callable[[str, Path], str]] = {
        root / "README.md": rebuilt_readme,
        root / "docs/results.md": german.rebuilt,
    }
    if (results / ABLATIONS).is_dir():
        texts[root / ablations.DOCS] = lambda text, kept: ablations.rebuilt(text, kept / ABLATIONS)
    documents = {path: _document(path, made, results) for path, made in texts.items() if path.is_file()}
    for path, text in documents.items():
        write_text(path, text)
    figures = [figure for path in sorted(results.glob("*/results.json")) for figure in redrawn(path)]
    homes = sorted(path for path in [*results.glob("*"), *results.glob("*/ablations")] if path.is_dir())
    return [*documents, *figures, *(figure for home in homes for figure in ablations.redrawn(home))]


def _document(path: Path, made: Callable[[str, Path], str], results: Path) -> str:
    try:
        return made(path.read_text(encoding="utf-8"), results)
    except UserError as error:
        raise UserError(f"{path}: {error.problem}", error.remedy) from error


def redrawn(kept: Path) -> list[Path]:
    """Draw those figures anew that lie beside a report's kept numbers."""
    from clp_transfer.report.figures import draw
    from clp_transfer.report.paper import paper

    found = read_json(kept)
    if "arms" not in found:
        return []
    for arm in found["arms"].values():  # numbers kept long ago lack a unit that follows from the others
        arm["curve"] = [point(one) for one in arm["curve"]]
    aside = kept.parent / ".figures"
    try:
        draw({"paper": paper(), **found}, aside)
        drawn = [path for path in sorted(aside.glob("*.png")) if (kept.parent / path.name).is_file()]
        return [Path(shutil.move(path, kept.parent / path.name)) for path in drawn]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def keep(experiment: Path, results: Path, machine: Path | None = None, command: str = "") -> None:
    """Copy an experiment's numbers (no text, no weights) and its figures into a folder of the repository.

    `experiment`: its folder, or its report's. `machine`: a JSON file that says on which it ran, `command` how.
    """
    report = experiment if (experiment / "results.json").is_file() else experiment / "report"
    if (report / "results.json").is_file():
        keep_report(report, results)
    if report != experiment:
        keep_rest(experiment, results)
        if (experiment / "ablations").is_dir():
            beside = (report / "results.json").is_file()  # the report's own figures
            ablations.keep(experiment / "ablations", results / "ablations" if beside else results)
    if machine is not None:
        write_json(results / "machine.json", {**read_json(machine), "command": command})


def main(given: list[str]) -> None:
    """The command lines above; a mistake is told on one screen, with status 2."""
    with one_screen():
        if len(given) > 1:
            machine = Path(given[2]) if len(given) > 2 else None
            keep(Path(given[0]), Path(given[1]), machine, "".join(given[3:4]))
        for written in rebuild(Path()):
            print(written)


if __name__ == "__main__":
    main(sys.argv[1:])
