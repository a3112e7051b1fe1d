"""The command line: the only place that knows Hydra. Composes a config, builds the stage's job, calls the library."""

from clp_transfer.cli.main import main

__all__ = ["main"]
