"""`python -m clp_transfer.bench [part …] [--quick]`: measure, print a table, write `outputs/bench/<part>.json`.

transfer is made of transfer_rows, transfer_command and transfer_7b, which can also be asked for one by one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clp_transfer.bench import peers
from clp_transfer.bench.rows import Row, table, write

PARTS = ("transfer", "prepare", "train", "train_gpu", "evaluate")
# What can be asked for alone; each is part of one above.
SINGLE = ("transfer_rows", "transfer_command", "transfer_7b")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the parts asked for (all by default), each with its table as soon as it is measured."""
    options = _parser().parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS + SINGLE]
    if unknown:
        _parser().error(f"no part {', '.join(unknown)}; choose from {', '.join(PARTS + SINGLE)}")
    if options.peers:
        os.environ[peers.VARIABLE] = str(options.peers)
    out = options.out or Path("outputs/bench/quick" if options.quick else "outputs/bench")
    rows: list[Row] = []
    for part in options.parts or PARTS:
        found = importlib.import_module(f"clp_transfer.bench.{part}").run(options.quick)
        if options.quick:  # the bars are for the full sizes
            found = [replace(row, bar=None, holds=None) for row in found]
        print(table(part, found), f"  written to {write(out, part, found)}\n", sep="\n", flush=True)
        rows += found
    missed = sum(row.holds is False for row in rows)
    held = sum(row.holds is True for row in rows)
    print(f"{held} bars hold, {missed} missed" if held or missed else "no bars at these sizes")
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m clp_transfer.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)} (default: all); or {', '.join(SINGLE)} alone"
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes, seconds a part, no bars: a check, no figures")
    parser.add_argument("--out", type=Path, help="folder of the JSON files (default: outputs/bench)")
    parser.add_argument("--peers", type=Path, help=f"folder of the peers' environments (default: {peers.DEFAULT})")
    return parser


if __name__ == "__main__":
    # The checkout's root is on the path with -m; its evaluate.py and clp.py shadow packages of those names.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path.cwd()]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
