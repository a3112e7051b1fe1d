"""What the user sees: plain log lines, and one screen for a mistake instead of a traceback."""

from __future__ import annotations

import errno
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from clp_transfer.errors import UserError, write_failed

REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again; finished work is kept",
    errno.EDQUOT: "your disk quota is used up: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: choose another folder with paths.outputs=…",
    errno.EACCES: "you may not write there: choose another folder with paths.outputs=… or paths.cache=…",
}


def start_logging() -> None:
    """Our log lines to standard output; only warnings of other packages. Ranks above 0 stay silent."""
    quiet = int(os.environ.get("RANK", "0")) > 0
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s", force=True)
    logging.getLogger("clp_transfer").setLevel(logging.ERROR if quiet else logging.INFO)


@contextmanager
def one_screen() -> Iterator[None]:
    """Print a user's mistake, or a full disk, as a message and exit with 2; a bug of ours keeps its traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except UserError as error:
        _stop(str(error))
    except BrokenPipeError:  # the reader of our output went away, as with `--help | head`
        os._exit(0)
    except KeyboardInterrupt:
        _stop("stopped; the same command goes on from here", status=130)
    except Exception as error:
        if type(error).__module__.startswith(("hydra", "omegaconf")):
            _stop(_config_mistake(error))
        if isinstance(error, OSError) and error.errno in REMEDIES:
            _stop(f"{error.filename or 'a file'}: {error.strerror}\n  What to do: {REMEDIES[error.errno]}")
        if write_failed(error):
            _stop(f"{str(error).splitlines()[0][:200]}\n  What to do: {REMEDIES[errno.ENOSPC]}")
        raise


def _config_mistake(error: Exception) -> str:
    """Hydra's message without its stack: it already names the key, the value and the type expected."""
    lines = "".join(traceback.format_exception_only(error)).strip().splitlines()
    parts = [lines[0].partition(": ")[2], *lines[1:]]
    cause = error.__cause__ or error.__context__
    if cause is not None and str(cause) not in str(error):
        parts += str(cause).splitlines()
    return "\n  ".join([*parts[:12], "What to do: see --help for the keys, --cfg job for their values"])


def _stop(message: str, status: int = 2) -> None:
    print(f"\nError: {message}", file=sys.stderr)
    sys.exit(status)
