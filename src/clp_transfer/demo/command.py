"""The demo's command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from clp_transfer.cli.screen import one_screen, start_logging


def main(arguments: list[str] | None = None) -> None:
    """Open the models and serve the page until it is interrupted; a mistake is told on one screen, with status 2."""
    parser = argparse.ArgumentParser(prog="scripts/demo.py", description="Models go on with the same German beginning.")
    parser.add_argument(
        "experiment", type=Path, nargs="?", default=Path("outputs/mini"),
        help="shows its source, its model from scratch and its best transferred one (default: outputs/mini)",
    )  # fmt: skip
    parser.add_argument(
        "--model", action="append", default=[], metavar="NAME=FOLDER", help="these models instead; may be repeated"
    )
    parser.add_argument("--port", type=int, default=7860, help="of this machine; 0: any free one (default: 7860)")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    asked = parser.parse_args(arguments)
    start_logging()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models are folders; nothing is fetched
    with one_screen():
        from clp_transfer.demo.models import of_experiment, open_models, parse

        choices = [parse(text) for text in asked.model] or of_experiment(asked.experiment)
        from clp_transfer.demo.page import serve

        serve(open_models(choices), asked.port, open_browser=asked.open)
