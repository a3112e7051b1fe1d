"""Local servers for tests: one for files, with ranges, breaks and refusals; one that answers as the hub does."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Served:
    """A file and how the server misbehaves with it.

    `cut`: a response's connection breaks after so many bytes of the body, `cuts` times (None: always); with `stall` it
    hangs instead. `statuses`: answered first, one a request; `status`: answered always. `etag`: the default is strong.
    """

    content: bytes
    etag: str | None = ""
    last_modified: str | None = None
    ranges: bool = True
    length: bool = True
    head: bool = True
    no_length_at_head: bool = False
    cut: int | None = None
    cuts: int | None = 1
    stall: bool = False
    status: int = 200
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.etag == "":
            self.etag = f'"{hashlib.sha256(self.content).hexdigest()[:12]}"'


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    range: str | None
    headers: dict[str, str]


class FileServer:
    """Serves `files` (by path) and keeps the requests in `seen`."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self.stopped = threading.Event()
        self.stalled = threading.Event()
        self._connections: list[socket.socket] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner._connections.append(self.connection)

            def do_GET(self) -> None:
                owner.seen.append(Seen(self.command, self.path, self.headers.get("Range"), dict(self.headers)))
                owner.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Answer no more: connections are closed, and refused from now on."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            with suppress(OSError):  # those that were closed before
                connection.shutdown(socket.SHUT_RDWR)

    def put(self, path: str, content: bytes, **how: Any) -> str:
        """Serve a file; gives its URL."""
        self.files[path] = Served(content, **how)
        return f"{self.address}/{path}"

    def ranges(self, path: str = "") -> list[str | None]:
        """The Range headers of the GET requests whose path ends so."""
        return [seen.range for seen in self.seen if seen.method == "GET" and seen.path.endswith(path)]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        file = self.files.get(unquote(urlsplit(request.path).path).lstrip("/"))
        if file is None:
            self.say(request, 404)
        else:
            self.send_file(request, file)

    def say(
        self, request: BaseHTTPRequestHandler, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Send a whole short answer."""
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)

    def send_file(self, request: BaseHTTPRequestHandler, file: Served, more: dict[str, str] | None = None) -> None:
        """Send a file or the part of it that is asked for (RFC 9110, 13.1.5 and 14.2)."""
        status = file.statuses.pop(0) if file.statuses else file.status
        if request.command == "HEAD" and not file.head:
            status = 405
        if status != 200:
            return self.say(request, status)
        start, asked = 0, request.headers.get("Range")
        expected = request.headers.get("If-Range")
        same = expected in (file.etag, file.last_modified) and not str(expected).startswith("W/")
        if asked and file.ranges and (expected is None or same):
            start, status = int(asked.removeprefix("bytes=").split("-")[0]), 206
            if start >= len(file.content):
                return self.say(request, 416, headers={"Content-Range": f"bytes */{len(file.content)}"})
        body = file.content[start:]
        headers = {"ETag": file.etag, "Last-Modified": file.last_modified, **file.headers, **(more or {})}
        headers["Content-Length"] = str(len(body)) if file.length else None
        if request.command == "HEAD" and file.no_length_at_head:
            headers["Content-Length"] = "0"
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(file.content) - 1}/{len(file.content)}"
        request.send_response(status)
        for key, value in headers.items():
            if value is not None:
                request.send_header(key, value)
        if not file.length:
            request.send_header("Connection", "close")
        request.end_headers()
        if request.command != "HEAD":
            self._send_body(request, file, body)
        return None

    def _send_body(self, request: BaseHTTPRequestHandler, file: Served, body: bytes) -> None:
        request.close_connection = not file.length
        if file.cut is None or file.cuts == 0 or file.cut >= len(body):
            request.wfile.write(body)
            return
        file.cuts = None if file.cuts is None else file.cuts - 1
        request.wfile.write(body[: file.cut])
        request.wfile.flush()
        request.close_connection = True
        if file.stall:
            self.stalled.set()
            self.stopped.wait(30)


@dataclass
class Repository:
    """A data set on the hub: `commits` by sha, each with its files; `refs` name commits."""

    commits: dict[str, dict[str, Served]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    token: str = ""

    def commit(self, ref: str, files: dict[str, bytes]) -> str:
        """Add a commit of these files and let the ref name it; gives its sha."""
        sha = hashlib.sha1(repr((ref, sorted(files.items()), len(self.commits))).encode()).hexdigest()
        self.commits[sha] = {path: Served(content) for path, content in files.items()}
        self.refs[ref] = sha
        return sha


class HubServer(FileServer):
    """The hub's answers to what `huggingface_hub` asks for: information, access, tree (in pages), files."""

    PAGE = 3

    def __init__(self) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}

    def add(self, name: str, **how: Any) -> Repository:
        """Add an empty data set `owner/name`."""
        self.repositories[name] = Repository(**how)
        return self.repositories[name]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        parts = [unquote(part) for part in urlsplit(request.path).path.strip("/").split("/")]
        if parts[0] == "api":
            self._answer_api(request, parts[2:])
        else:
            self._resolve(request, parts[1:])

    def _open(self, request: BaseHTTPRequestHandler, parts: list[str]) -> Repository | None:
        repository = self.repositories.get("/".join(parts[:2]))
        if repository is None:
            self.say(request, 404, headers={"X-Error-Code": "RepoNotFound"})
        return repository

    def _is_closed(self, request: BaseHTTPRequestHandler, repository: Repository) -> bool:
        closed = repository.gated and request.headers.get("Authorization") != f"Bearer {repository.token}"
        if closed:
            self.say(request, 401, headers={"X-Error-Code": "GatedRepo"})
        return closed

    def _find(self, request: BaseHTTPRequestHandler, repository: Repository, revision: str) -> str | None:
        sha = repository.refs.get(revision, revision)
        if sha in repository.commits:
            return sha
        self.say(request, 404, headers={"X-Error-Code": "RevisionNotFound"})
        return None

    def _answer_api(self, request: BaseHTTPRequestHandler, parts: list[str]) -> None:
        repository = self._open(request, parts)
        if repository is None:
            return
        what = parts[2:3] or ["revision"]
        if what == ["auth-check"]:
            if not self._is_closed(request, repository):
                self.say(request, 200)
            return
        sha = self._find(request, repository, (parts[3:4] or ["main"])[0])
        if sha is None:
            return
        if what == ["tree"]:
            self._list(request, repository.commits[sha], "/".join(parts[4:]))
            return
        about = {"id": "/".join(parts[:2]), "sha": sha, "gated": "auto" if repository.gated else False}
        self.say(request, 200, json.dumps(about).encode())

    def _list(self, request: BaseHTTPRequestHandler, files: dict[str, Served], folder: str) -> None:
        inside = sorted(path for path in files if not folder or path.startswith(f"{folder}/"))
        if not inside:
            self.say(request, 404, headers={"X-Error-Code": "EntryNotFound"})
            return
        rows: list[dict[str, Any]] = [{"type": "directory", "path": inside[0].rpartition("/")[0], "oid": "0" * 40}]
        for path in inside:
            content = files[path].content
            blob = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            if path.endswith(".parquet"):
                blob["lfs"] = {"size": len(content), "oid": hashlib.sha256(content).hexdigest(), "pointerSize": 130}
            rows.append(blob)
        first = int(parse_qs(urlsplit(request.path).query).get("first", ["0"])[0])
        headers = {}
        if first + self.PAGE < len(rows):
            after = f"{self.address}{urlsplit(request.path).path}?recursive=True&first={first + self.PAGE}"
            headers["Link"] = f'<{after}>; rel="next"'
        self.say(request, 200, json.dumps(rows[first : first + self.PAGE]).encode(), headers)

    def _resolve(self, request: BaseHTTPRequestHandler, parts: list[str]) -> None:
        repository = self._open(request, parts)
        if repository is None or self._is_closed(request, repository):
            return
        sha = self._find(request, repository, parts[3])
        if sha is None:
            return
        file = repository.commits[sha].get("/".join(parts[4:]))
        if file is None:
            self.say(request, 404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        else:
            self.send_file(request, file, {"X-Repo-Commit": sha})


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    """Stop the server at the end of the block."""
    try:
        yield server
    finally:
        if not server.stopped.is_set():
            server.stop()
