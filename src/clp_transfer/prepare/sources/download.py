"""Files behind URLs: asked about before they are needed, downloaded to the cache, resumed by range after any end."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError

from clp_transfer.errors import UserError
from clp_transfer.files import locked
from clp_transfer.prepare.sources.remote import BUSY, TIMEOUT, Remote, ask, check_status, open_session, reason, retries
from clp_transfer.prepare.sources.source_file import NoAnswer, SourceFile
from clp_transfer.progress import Progress

log = logging.getLogger(__name__)

BLOCK = 1 << 20
LONGEST_NAME = 100
ATTEMPTS = 5  # without a new byte
BY_HAND = "or download it in another way and name its path in files"


def is_url(entry: str) -> bool:
    """Whether an entry of `files` is an http(s) address; raises UserError for other schemes."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", entry)
    if match and match[1].lower() not in ("http", "https"):
        raise UserError(f"{entry} cannot be fetched: {match[1]} is not spoken here", f"give an http(s) URL, {BY_HAND}")
    return match is not None


def shown(url: str) -> str:
    """The URL as it may be recorded: without a password, and without the query, which may hold a key."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", parts.fragment))


def file_name(url: str) -> str:
    """What the file is called here: the fragment where there is one (`…/get?id=7#part.txt.gz`), else the path's end."""
    parts = urlsplit(url)
    name = unquote(parts.fragment or parts.path).rpartition("/")[2]
    return re.sub(r"[^\w.+=-]", "_", name).lstrip(".")[-LONGEST_NAME:] or "download"


class Downloads:
    """The folder `<folder>/<hash of the URL>/<file name>` of everything downloaded so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._silent: dict[str, NoAnswer] = {}

    def locate(self, source: str, url: str) -> SourceFile:
        """Ask the server about a file. Where there is no answer, the answer of the last time does, with a warning.

        Raises UserError where the file is not there or may not be read, and where the server has never answered.
        """
        target = self.folder / hashlib.sha256(url.partition("#")[0].encode()).hexdigest()[:16] / file_name(url)
        asked = target.with_name(f"{target.name}.asked")
        before = Remote.read(target, whole=True)
        try:
            remote = self._ask(url)
            remote.write(asked)
        except NoAnswer as error:
            known = before or Remote.read(asked)
            if known is None:
                raise UserError(
                    f"{shown(url)} cannot be reached: {error}", f"check the address and the network, {BY_HAND}"
                ) from error
            what = "using what was downloaded before" if before else "going by what it said the last time"
            log.warning("%s cannot be reached (%s): %s", shown(url), error, what)
            remote = known
        if before is not None and before.fingerprint != remote.fingerprint:
            log.warning("%s has changed since it was downloaded: it will be downloaded again", shown(url))
        fetch = partial(download, url, remote, target)
        return SourceFile(source, shown(url), remote.fingerprint, remote.length, None, fetch)

    def _ask(self, url: str) -> Remote:
        """A host that has once not answered is not waited for again."""
        host = urlsplit(url).netloc
        if host in self._silent:
            raise self._silent[host]
        try:
            return ask(url, shown(url))
        except NoAnswer as error:
            self._silent[host] = error
            raise


def download(url: str, remote: Remote, target: Path) -> Path:
    """Bring the file to `target`, whole or not at all; what there is of it is kept as `<target>.partial` for next time.

    A part of another version than `remote` is thrown away, with a warning. Raises UserError where the server stops
    again and again, or gives another version than `remote`; OSError passes (a full disk), and keeps the part.
    """
    recorded = Remote.read(target, whole=True)
    if recorded is not None and recorded.fingerprint == remote.fingerprint:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.partial")
    with locked(target.parent / ".lock"):
        _begin(url, remote, part)
        have = part.stat().st_size
        log.info("downloading %s%s", shown(url), f", going on after {have:,} bytes" if have else "")
        with open_session() as session, Progress(target.name, remote.length, have) as progress:
            _Transfer(session, url, remote, part, progress).run()
        _finish(remote, part, target)
    return target


def _begin(url: str, remote: Remote, part: Path) -> None:
    """Leave a part that can be gone on with, or an empty one, with a record of what it is a part of."""
    before = Remote.read(part)
    have = part.stat().st_size if part.is_file() else 0
    if have and (before is None or before.fingerprint != remote.fingerprint):
        log.warning("%s has changed since its download began: starting again", shown(url))
        have = 0
    if remote.length is not None and have > remote.length:
        have = 0
    remote.write(part)
    with part.open("ab") as file:
        file.truncate(have)


def _finish(remote: Remote, part: Path, target: Path) -> None:
    """Rename, with the record removed before and written after: a record never stands beside another version."""
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    Remote.record(target).unlink(missing_ok=True)
    part.replace(target)
    remote.write(target, bytes=target.stat().st_size)
    Remote.record(part).unlink(missing_ok=True)


class _Transfer:
    """One download on its way: asked for again from where it stands as often as new bytes arrive."""

    def __init__(self, session: requests.Session, url: str, remote: Remote, part: Path, progress: Progress) -> None:
        self.session, self.url, self.remote, self.part, self.progress = session, url, remote, part, progress

    @property
    def have(self) -> int:
        return self.part.stat().st_size

    def run(self) -> None:
        best, patience = self.have, retries(ATTEMPTS)
        while self.remote.length is None or self.have != self.remote.length:
            try:
                self._receive()
                if self.remote.length is None or self.have == self.remote.length:
                    return
                failure: Exception = ProtocolError("it ended early")
            except (requests.RequestException, HTTPError) as error:
                failure = error
            if self.have > best:
                best, patience = self.have, retries(ATTEMPTS)
            length = "?" if self.remote.length is None else f"{self.remote.length:,}"
            try:
                patience = patience.increment("GET", self.url, error=ProtocolError(str(failure)))
            except MaxRetryError as error:
                raise UserError(
                    f"{shown(self.url)} stops after {self.have:,} of {length} bytes: {reason(failure)}",
                    f"run again, it goes on from there; {BY_HAND}",
                ) from error
            log.warning("%s stopped after %s of %s bytes: asking again", shown(self.url), f"{self.have:,}", length)
            patience.sleep()

    def _receive(self) -> None:
        """One request; everything that arrives is written, also where the connection then breaks."""
        have = self.have if self.remote.can_resume else 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self.remote.validator:
            headers["If-Range"] = self.remote.validator  # another version is then sent whole, and noticed below
        with self.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._cut_back(0)
                raise ProtocolError("it has no such range")
            if response.status_code in BUSY:
                raise ProtocolError(f"it answers {response.status_code} {response.reason}")
            check_status(response.status_code, shown(self.url))
            self._check(response)
            start = _range_start(response)
            if start != have:
                log.warning("%s cannot be gone on with: the server sends all of it", shown(self.url))
                if start != 0:
                    raise ProtocolError(f"bytes from {have:,} were asked for, it sent those from {start:,}")
            self._cut_back(start)
            with self.part.open("ab") as file:
                # Unlike `stream`, `read1` also gives what arrived right before the connection broke.
                while block := response.raw.read1(BLOCK, decode_content=False):
                    file.write(block)
                    self.progress.add(len(block))

    def _cut_back(self, size: int) -> None:
        os.truncate(self.part, size)
        self.progress.to(size)

    def _check(self, response: requests.Response) -> None:
        if self.remote.differs(Remote.of(response)):
            raise UserError(
                f"{shown(self.url)} has changed since it was asked for", "run again to take the new version"
            )
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity" and not self.part.name.endswith(".gz.partial"):
            raise UserError(
                f"{shown(self.url)} is sent as {encoding}, although plain bytes were asked for",
                "download it in another way and name its path in files",
            )


def _range_start(response: requests.Response) -> int:
    if response.status_code != requests.codes.partial_content:
        return 0
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1
