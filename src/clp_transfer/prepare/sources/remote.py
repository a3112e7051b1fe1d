"""What a web server says about a file: which version it is and how long, or why it cannot be had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from clp_transfer.errors import UserError
from clp_transfer.files import read_json, write_json
from clp_transfer.prepare.sources.source_file import NoAnswer

TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
BUSY = (429, 500, 502, 503, 504)
BACKOFF = 1.0  # seconds


def retries(total: int) -> Retry:
    """How often a request is repeated: at once, then after 2, 4, 8, 16 s, or as the server's Retry-After says."""
    return Retry(total, backoff_factor=BACKOFF, status_forcelist=BUSY, raise_on_status=False)


@dataclass(frozen=True)
class Remote:
    """One version of a file on a server; what it does not say is None."""

    etag: str | None
    last_modified: str | None
    length: int | None

    @classmethod
    def of(cls, response: requests.Response) -> Remote:
        """The version that an answer (to HEAD, GET, or GET of a range) is about."""
        headers: Mapping[str, str] = response.headers
        length = headers.get("Content-Length", "")
        if response.status_code == requests.codes.partial_content:
            length = headers.get("Content-Range", "").rpartition("/")[2]
        known = int(length) if re.fullmatch(r"\d+", length) else None
        return cls(headers.get("ETag"), headers.get("Last-Modified"), known)

    @property
    def fingerprint(self) -> str:
        """Changes when the server says that the file has; where it says nothing, that cannot be noticed."""
        return f"etag={self.etag} last_modified={self.last_modified} length={self.length}"

    @property
    def can_resume(self) -> bool:
        """Whether a part can be told to be one of this version."""
        return self.etag is not None or self.last_modified is not None

    @property
    def validator(self) -> str | None:
        """What If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the date."""
        return self.last_modified if self.etag is None or self.etag.startswith("W/") else self.etag

    def differs(self, other: Remote) -> bool:
        """Whether both say something and not the same; an answer with a range need not repeat everything."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return any(mine is not None and theirs is not None and mine != theirs for mine, theirs in pairs)

    def write(self, file: Path, **more: int) -> None:
        """Record beside a file, or a part of one, that it is of this version."""
        write_json(self.record(file), {**asdict(self), **more})

    @staticmethod
    def record(file: Path) -> Path:
        """Where that is recorded."""
        return file.with_name(f"{file.name}.json")

    @classmethod
    def read(cls, file: Path, whole: bool = False) -> Remote | None:
        """What was recorded of a file; None where nothing was, or, with `whole`, not that it has the size it has."""
        try:
            record = read_json(cls.record(file))
            if whole and record["bytes"] != file.stat().st_size:
                return None
            return cls(record["etag"], record["last_modified"], record["length"])
        except (UserError, KeyError, TypeError, FileNotFoundError):
            return None


def open_session() -> requests.Session:
    """A session that repeats requests that do not get through, and asks for the stored bytes."""
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries(2)))
    # Compressed on the way, a file would have another length and could not be gone on with.
    session.headers["Accept-Encoding"] = "identity"
    return session


def ask(url: str, name: str) -> Remote:
    """What the server says about a URL; raises NoAnswer, and UserError where the file cannot be had."""
    try:
        with open_session() as session:
            response = session.head(url, allow_redirects=True, timeout=TIMEOUT)
            refused = response.status_code >= 400 and response.status_code not in BUSY
            # Some servers know no HEAD, some refuse it where they allow GET (signed links), some answer with no length.
            if refused or Remote.of(response).length == 0:
                with session.get(url, stream=True, timeout=TIMEOUT) as response:  # its body is left unread
                    pass
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise UserError(f"{name} is not a URL: {error}", "mend the address") from error
    except requests.RequestException as error:
        raise NoAnswer(reason(error)) from error
    if response.status_code in BUSY:
        raise NoAnswer(f"it answers {response.status_code} {response.reason}")
    check_status(response.status_code, name)
    return Remote.of(response)


def check_status(status: int, name: str) -> None:
    """Raise UserError for an answer other than a file or a part of one."""
    if status in (200, 206):
        return
    problems = {
        401: ("asks for a user and a password", "put those of that host into ~/.netrc"),
        403: ("may not be read", "ask its owner for read access, or for a new link where this one has run out"),
        404: ("is not there", "check the address"),
        410: ("is no longer there", "look for its new address"),
    }
    problem, remedy = problems.get(status, ("cannot be downloaded", "check the address"))
    raise UserError(f"{name} {problem} (HTTP {status})", f"{remedy}; or name the path of a copy in files")


def reason(error: BaseException) -> str:
    """The short cause at the bottom of a chain of wrapped network errors."""
    inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
    if isinstance(inner, BaseException) and inner is not error:
        return reason(inner)
    return str(error).rpartition(": ")[2] or type(error).__name__
