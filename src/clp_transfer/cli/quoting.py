"""Letters beyond ASCII on the command line: Hydra's grammar takes `explain=Straßenbahn` only in quotes."""

from __future__ import annotations


def quote_letters(arguments: list[str]) -> list[str]:
    """The same arguments, with quotes around every value that has such letters and none yet.

    The members of a sweep (`a,b`) are quoted one by one. Lists, dictionaries and quoted values stay as they are.
    """
    return [_quoted(argument) for argument in arguments]


def _quoted(argument: str) -> str:
    key, equals, value = argument.partition("=")
    if not equals or argument.startswith("-") or value.isascii() or any(sign in value for sign in "'\"[]{}$"):
        return argument
    return f"{key}=" + ",".join(part if part.isascii() else f"'{part}'" for part in value.split(","))
