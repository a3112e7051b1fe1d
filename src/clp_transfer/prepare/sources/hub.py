"""Data sets on the hub, through its own library: which files there are at one commit, and their download."""

from __future__ import annotations

import difflib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fsspec.utils import glob_translate
from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library that it uses: the root of its network errors
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from clp_transfer.errors import UserError
from clp_transfer.files import locked, read_json, sha256_json, write_json
from clp_transfer.prepare.job import HubConfig
from clp_transfer.prepare.sources.local import natural, shorten
from clp_transfer.prepare.sources.source_file import NoAnswer, SourceFile

log = logging.getLogger(__name__)

CONVERTED = "refs/convert/parquet"
SECONDS = 30.0


def hub_files(source: str, config: HubConfig, cache: Path) -> list[SourceFile]:
    """The files of a hub data set in the natural order of their names, pattern after pattern, at one commit.

    Where the hub does not answer (or HF_HUB_OFFLINE is set), it is the list of the last time, with a warning: those of
    its files that are in `cache/hub` can be fetched. Raises UserError where the data set or a file is not there, where
    it is gated, where its Parquet conversion is not complete, and where the hub was never asked.
    """
    if not config.dataset:
        raise UserError(f"source {source!r} names no data set on the hub", "give hub.dataset as owner/name")
    config = config.filled()
    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    record = cache / "hub" / "listings" / f"{sha256_json([endpoint, asdict(config)])[:16]}.json"
    try:
        with _explained(config.dataset, endpoint):
            listing = _list(HfApi(endpoint=endpoint), config)
    except NoAnswer as error:
        before = _listed_before(record)
        if before is None:
            raise UserError(
                f"{endpoint} cannot be asked about the data set {config.dataset}: {error}",
                "check the network, HF_HUB_OFFLINE and HF_ENDPOINT; or download the files elsewhere and name their "
                "paths in files",
            ) from error
        log.warning("%s cannot be asked (%s): using its list of the last time", endpoint, error)
        listing = before
    else:
        write_json(record, listing)
    commit = listing["commit"]
    return [
        SourceFile(
            source,
            f"hf://datasets/{config.dataset}/{file['path']}",
            file["blob"],
            file["size"],
            None,
            partial(_fetch, config.dataset, commit, file["path"], endpoint, cache),
            commit,
        )
        for file in listing["files"]
    ]


def _list(api: HfApi, config: HubConfig) -> dict[str, Any]:
    """The commit and the files: `{"commit", "files": [{"path", "size", "blob"}]}`."""
    revision = config.revision or (None if config.files else CONVERTED)
    try:
        info = api.dataset_info(config.dataset, revision=revision, timeout=SECONDS)
    except RevisionNotFoundError as error:
        raise _no_revision(api, config, revision) from error
    if info.gated:  # everyone may list its files: whether they may be read is asked for here, not after hours
        api.auth_check(config.dataset, repo_type="dataset")
    commit = str(info.sha)
    files = _matching(api, config, commit) if config.files else _converted(api, config, commit)
    return {
        "commit": commit,
        "files": [{"path": f.path, "size": f.size, "blob": f.lfs.sha256 if f.lfs else f.blob_id} for f in files],
    }


def _tree(api: HfApi, config: HubConfig, commit: str, folder: str = "") -> list[RepoFile]:
    """Every file below a folder of the repository, in natural order; none where there is no such folder."""
    tree = api.list_repo_tree(config.dataset, folder or None, recursive=True, revision=commit, repo_type="dataset")
    with suppress(EntryNotFoundError):
        return sorted((f for f in tree if isinstance(f, RepoFile)), key=lambda f: natural(f.path))
    return []


def _matching(api: HfApi, config: HubConfig, commit: str) -> list[RepoFile]:
    """The files that the patterns name, each once; as in paths, `*` stays within a folder and `**` does not."""
    found: dict[str, RepoFile] = {}
    for pattern in config.files:
        fixed = re.split(r"[*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0]  # only this folder needs to be listed
        try:
            matches = re.compile(glob_translate(pattern)).match
        except ValueError as error:  # a ** within a name
            raise UserError(f"hub.files: {pattern}: {error}", "mend the pattern") from error
        matching = {f.path: f for f in _tree(api, config, commit, fixed) if matches(f.path)}
        if not matching:
            names = [f.path for f in _tree(api, config, commit)]
            raise UserError(
                f"{pattern} matches no file of the data set {config.dataset}",
                f"mend the pattern: it has {shorten(difflib.get_close_matches(pattern, names, 5, 0.3) or names)}",
            )
        found |= {path: file for path, file in matching.items() if path not in found}
    return list(found.values())


def _converted(api: HfApi, config: HubConfig, commit: str) -> list[RepoFile]:
    """The hub's own Parquet files of a split: `<config>/<split>/0000.parquet` and on."""
    files = [f for f in _tree(api, config, commit) if f.path.endswith(".parquet")]
    folder, part = f"{config.config}/{config.split}", f"{config.config}/partial-{config.split}"
    splits = list(dict.fromkeys(f.path.rpartition("/")[0] for f in files))
    if part in splits:
        raise UserError(
            f"the hub has converted only the first part of {folder} of {config.dataset} to Parquet",
            f"if that part is enough, ask for it: hub.revision={CONVERTED} and hub.files=[{part}/*.parquet]; "
            "for all of it, name the data set's own files in hub.files",
        )
    if folder not in splits:
        near = difflib.get_close_matches(folder, splits, 5) or splits
        raise UserError(
            f"{config.dataset} has no config and split {folder} in the hub's Parquet conversion",
            f"set hub.config and hub.split: it has {shorten(near)}" if near else "name its own files in hub.files",
        )
    return [f for f in files if f.path.startswith(f"{folder}/")]


def _no_revision(api: HfApi, config: HubConfig, revision: str | None) -> UserError:
    if revision == CONVERTED and not config.revision:
        names = api.list_repo_files(config.dataset, repo_type="dataset")
        return UserError(
            f"the hub has no Parquet conversion of {config.dataset}",
            f"name its own files in hub.files: it has {shorten(sorted(names, key=natural))}",
        )
    return UserError(
        f"the data set {config.dataset} has no revision {revision}", "give a branch, a tag or a commit, or null"
    )


def _cached(dataset: str, commit: str, path: str, cache: Path) -> Path | None:
    found = try_to_load_from_cache(dataset, path, cache_dir=cache / "hub", revision=commit, repo_type="dataset")
    return Path(found) if isinstance(found, str) else None


def _listed_before(record: Path) -> dict[str, Any] | None:
    try:
        listing: dict[str, Any] = read_json(record)
    except UserError:
        return None
    return listing


def _fetch(dataset: str, commit: str, path: str, endpoint: str, cache: Path) -> Path:
    """The file in the cache, downloaded where it is not there."""
    cached = _cached(dataset, commit, path, cache)
    if cached is not None:
        return cached
    folder = cache / "hub"
    repository = folder / f"datasets--{dataset.replace('/', '--')}"
    log.info("downloading %s of %s", path, dataset)
    try:
        with locked(folder / f".{repository.name}.lock"), _explained(dataset, endpoint):
            # The library resumes within a run, but under a new name in each: what a killed one left is of no use.
            for stale in (repository / "blobs").glob("*.incomplete"):
                stale.unlink()
            ask = partial(hf_hub_download, repo_type="dataset", endpoint=endpoint, etag_timeout=SECONDS)
            return Path(ask(dataset, path, revision=commit, cache_dir=folder))
    except NoAnswer as error:
        raise UserError(
            f"{path} of the data set {dataset} cannot be downloaded: {error}", "check the network, then run again"
        ) from error


@contextmanager
def _explained(dataset: str, endpoint: str) -> Iterator[None]:
    """Turn the library's errors into UserError where the user can mend them, into NoAnswer where the hub is silent."""
    try:
        yield
    except (HTTPError, EntryNotFoundError, HFValidationError) as error:
        raise _meaning(error, dataset, endpoint) from error
    except OSError as error:  # the library's own have no number; a full disk has
        if error.errno is not None:
            raise
        raise NoAnswer(_first_line(error)) from error


def _meaning(error: Exception, dataset: str, endpoint: str) -> UserError | NoAnswer:
    page = f"{endpoint}/datasets/{dataset}"
    token = f"set HF_TOKEN to a token of that account ({endpoint}/settings/tokens)"
    if isinstance(error, GatedRepoError):
        return UserError(
            f"the data set {dataset} is gated: its owner asks for your consent to its terms",
            f"accept them on {page} with your account, {token}, then run again",
        )
    if isinstance(error, RepositoryNotFoundError):
        return UserError(
            f"the hub has no data set {dataset}, or it is private",
            f"check hub.dataset (owner/name, as in {page}); if it is private, ask its owner for access and {token}",
        )
    if isinstance(error, HFValidationError):
        return UserError(
            f"hub.dataset={dataset!r} is no name on the hub: {_first_line(error)}", "give it as owner/name"
        )
    if isinstance(error, LocalEntryNotFoundError):
        return NoAnswer(_first_line(error.__cause__ or error))
    if isinstance(error, EntryNotFoundError | RevisionNotFoundError):
        return UserError(f"a file of {dataset} was removed as it was fetched", "run again to take the newest commit")
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return UserError(f"the hub refuses {dataset}: {_first_line(error)}", f"get access on {page}, {token}")
    return NoAnswer(_first_line(error))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
