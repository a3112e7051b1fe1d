"""Peers whose packages do not fit beside ours live in environments of their own.

python -m clp_transfer.bench.peers install langsfer mergekit   (once; each about 1.5 GB)

They lie in `.cache/clp-transfer/peers/<name>`, or below the folder that `CLP_BENCH_PEERS` names. Each has the torch
version that we have, so that a comparison compares the programs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

VARIABLE = "CLP_BENCH_PEERS"
DEFAULT = Path(".cache/clp-transfer/peers")
# What is asked of pip, beside torch. langsfer wants numpy < 2 and transformers < 5, which we are past.
# It also imports platformdirs, which it does not ask for.
PEERS = {"langsfer": ("langsfer==0.1.0", "platformdirs"), "mergekit": ("mergekit==0.1.5",)}
# Written last: an environment without it, or with other versions in it, is not used.
MARK = "clp-bench-peer.txt"


def folder() -> Path:
    """The folder of all peers' environments, absolute."""
    return Path(os.environ.get(VARIABLE) or DEFAULT).absolute()


def python(name: str) -> Path | None:
    """The interpreter of a peer's environment; None where it is not installed, or not in the versions wanted now."""
    home = folder() / name
    interpreter = _interpreter(home)
    mark = home / MARK
    if interpreter.exists() and mark.is_file() and mark.read_text(encoding="utf-8") == contents(name):
        return interpreter
    return None


def missing(name: str) -> str:
    """The note of a row whose peer is not there: how to install it."""
    return (
        f"{PEERS[name][0]} with torch {_torch()} is not in {folder() / name}, so this peer was not run: "
        f"python -m clp_transfer.bench.peers install {name}"
    )


def environment() -> dict[str, str]:
    """The variables that a peer's process runs with: ours, without what would lend it our packages; offline."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    return kept | {"HF_HUB_OFFLINE": "1"}


def install(name: str) -> Path:
    """Make a peer's environment anew, unless it stands; its interpreter.

    Raises subprocess.CalledProcessError where pip fails: its own words are on the screen.
    """
    if ready := python(name):
        return ready
    home = folder() / name
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True, symlinks=True)
    constraints = home / "constraints.txt"
    constraints.write_text(f"torch=={_torch()}\n", encoding="utf-8")
    # As a variable it also reaches build environments, and it replaces our own constraints where make has set them.
    variables = environment() | {"PIP_CONSTRAINT": str(constraints), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    interpreter = _interpreter(home)
    subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *PEERS[name]], env=variables, check=True)
    (home / MARK).write_text(contents(name), encoding="utf-8")
    return interpreter


def _interpreter(home: Path) -> Path:
    return home / "bin" / "python"


def contents(name: str) -> str:
    """What an environment has to hold, as its mark says it."""
    return f"{' '.join(PEERS[name])} with torch=={_torch()}\n"


def _torch() -> str:
    """Our torch by its release alone: `+cpu` and the like name a wheel that an index need not have."""
    return version("torch").partition("+")[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """`install [peer …]`: all of them by default."""
    parser = argparse.ArgumentParser(prog="python -m clp_transfer.bench.peers", description="Environments of peers")
    parser.add_argument("action", choices=["install"])
    parser.add_argument("peers", nargs="*", metavar="peer", help=f"{', '.join(PEERS)} (default: all)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"no peer {', '.join(unknown)}; choose from {', '.join(PEERS)}")
    for name in options.peers or PEERS:
        print(f"{name}: {install(name)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip failed ({error.returncode}); its own words are above")
