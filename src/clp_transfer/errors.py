"""The one exception a user is meant to see, and how a disk that refuses looks without being one."""

from __future__ import annotations

import re

# How torch, safetensors and NumPy, which write with C++, Rust and C, report a full or failing disk: without a number.
FAILED_WRITES = (
    "No space left on device",
    r"enforce fail at inline_container\.cc",
    "basic_ios::clear",
    r"PytorchStreamWriter failed",
    r"\d+ requested and \d+ written",
)


def write_failed(error: BaseException) -> bool:
    """Whether the error is another package's way of saying that the disk is full or fails."""
    return any(re.search(sign, str(error)) for sign in FAILED_WRITES)


class UserError(Exception):
    """A problem the user can mend: says what is wrong, what was expected, and what to do.

    The command line prints it on one screen, with no traceback, and exits with status 2.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  What to do: {remedy}" if remedy else problem)
