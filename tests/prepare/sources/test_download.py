from __future__ import annotations

import errno
import logging
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from tiny.server import FileServer

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.sources import SourceFile, download, locate
from clp_transfer.prepare.sources.download import file_name, shown

CONTENT = random.Random(1).randbytes(50_000)


def one(url: str, cache: Path) -> SourceFile:
    (file,) = locate("s", SourceConfig(files=[url]), cache)
    return file


def in_cache(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.rglob("*") if p.is_file() and p.name != ".lock" and ".asked" not in p.name)


def test_a_file_is_downloaded_once(server: FileServer, cache, tmp_path):
    url = server.put("de/part.txt.gz", CONTENT)
    file = one(url, cache)
    assert (file.name, file.size, file.member) == (url, 50_000, None)
    assert not list(cache.rglob("part.txt.gz"))  # only asked about
    path = file.fetch()
    assert path.read_bytes() == CONTENT
    assert path.name == "part.txt.gz"
    assert in_cache(cache) == ["part.txt.gz", "part.txt.gz.json"]
    assert one(url, cache) == file
    assert one(url, cache).fetch() == path
    assert server.ranges() == [None]


def test_a_range_of_urls_in_order(server: FileServer, cache):
    for number in range(9, 12):
        server.put(f"p_{number}.txt", b"%d" % number)
    files = locate("s", SourceConfig(files=[f"{server.address}/p_{{9..11}}.txt"]), cache)
    assert [file.fetch().read_bytes() for file in files] == [b"9", b"10", b"11"]


@pytest.mark.parametrize(
    "how", [{}, {"etag": None, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}, {"etag": 'W/"1"'}]
)
def test_a_response_that_breaks_off_is_gone_on_with(server: FileServer, cache, how):
    url = server.put("a.txt", CONTENT, cut=20_000, cuts=2, **how)
    assert one(url, cache).fetch().read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=20000-", "bytes=40000-"]


def test_every_response_breaks_off_but_each_brings_something(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, cut=3_000, cuts=None)
    assert one(url, cache).fetch().read_bytes() == CONTENT
    assert len(server.ranges()) == 17


@pytest.mark.parametrize("how", [{"ranges": False}, {"etag": None}])
def test_what_cannot_be_gone_on_with_is_begun_again(server: FileServer, cache, how):
    url = server.put("a.txt", CONTENT, cut=20_000, cuts=2, **how)
    assert one(url, cache).fetch().read_bytes() == CONTENT


def test_a_server_that_brings_nothing_more_is_given_up_and_the_part_kept(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, cut=20_000, cuts=None, ranges=False)
    with pytest.raises(UserError, match=r"a\.txt stops after 20,000 of 50,000 bytes"):
        one(url, cache).fetch()
    assert in_cache(cache) == ["a.txt.partial", "a.txt.partial.json"]
    assert len(server.ranges()) == 6  # the first, and five more
    server.put("a.txt", CONTENT)
    assert one(url, cache).fetch().read_bytes() == CONTENT
    assert server.ranges()[-1] == "bytes=20000-"


def test_a_busy_server_is_asked_again(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, statuses=[503, 503])
    assert one(url, cache).fetch().read_bytes() == CONTENT
    server.put("b.txt", CONTENT, statuses=[200, 500, 500, 500, 502])
    assert one(f"{server.address}/b.txt", cache).fetch().read_bytes() == CONTENT


def test_no_length_and_no_head(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, length=False, head=False)
    file = one(url, cache)
    assert file.size is None
    assert file.fetch().read_bytes() == CONTENT


def test_a_head_that_says_0_is_not_believed(server: FileServer, cache):
    file = one(server.put("a.txt", CONTENT, no_length_at_head=True), cache)
    assert file.size == 50_000
    assert file.fetch().read_bytes() == CONTENT


def test_an_empty_file(server: FileServer, cache):
    assert one(server.put("a.txt", b""), cache).fetch().read_bytes() == b""


def test_a_changed_file_is_downloaded_again_with_a_warning(server: FileServer, cache, caplog):
    url = server.put("a.txt", CONTENT)
    before = one(url, cache)
    before.fetch()
    server.put("a.txt", CONTENT[::-1])
    after = one(url, cache)
    assert "has changed since it was downloaded" in caplog.text
    assert before.fingerprint != after.fingerprint
    assert after.fetch().read_bytes() == CONTENT[::-1]
    assert one(url, cache).fetch().read_bytes() == CONTENT[::-1]


def test_a_part_of_another_version_is_thrown_away_with_a_warning(server: FileServer, cache, caplog):
    url = server.put("a.txt", CONTENT, cut=20_000, cuts=None, ranges=False)
    with pytest.raises(UserError):
        one(url, cache).fetch()
    server.put("a.txt", CONTENT[::-1])
    assert one(url, cache).fetch().read_bytes() == CONTENT[::-1]
    assert "has changed since its download began: starting again" in caplog.text
    assert server.ranges()[-1] is None


def test_a_file_that_changes_half_way_is_never_a_mixture(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, cut=20_000, cuts=1)
    file = one(url, cache)
    real = server.send_file

    def change(request, served, more=None):
        real(request, served, more)
        server.put("a.txt", CONTENT[::-1])

    server.send_file = change
    with pytest.raises(UserError, match="has changed since it was asked for"):
        file.fetch()
    assert server.seen[-1].headers["If-Range"] != server.files["a.txt"].etag
    assert one(url, cache).fetch().read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    "status, problem, remedy",
    [
        (404, "is not there", "check the address"),
        (410, "no longer there", "new address"),
        (401, "asks for a user and a password", "netrc"),
        (403, "may not be read", "read access"),
        (418, "cannot be downloaded", "address"),
    ],
)
def test_refusals_name_the_url_and_what_to_do(server: FileServer, cache, status, problem, remedy):
    url = server.put("a.txt", CONTENT, status=status)
    with pytest.raises(UserError) as error:
        one(url, cache)
    assert f"{url} " in error.value.problem
    assert problem in error.value.problem
    assert str(status) in error.value.problem
    assert remedy in error.value.remedy


def test_without_the_server_an_earlier_download_does_with_a_warning(server: FileServer, cache, caplog):
    url, later = server.put("a.txt", CONTENT), server.put("b.txt", CONTENT)
    config = SourceConfig(files=[url, later])
    before = locate("s", config, cache)
    path = before[0].fetch()
    server.stop()
    after = locate("s", config, cache)
    assert after == before
    assert after[0].fetch() == path
    assert "a.txt cannot be reached (" in caplog.text
    assert "using what was downloaded before" in caplog.text
    assert "going by what it said the last time" in caplog.text
    with pytest.raises(UserError, match=r"b\.txt stops after 0 of 50,000 bytes: .*refused"):
        after[1].fetch()


def test_without_the_server_and_an_earlier_download(server: FileServer, cache):
    server.stop()
    with pytest.raises(UserError, match=r"cannot be reached: .*refused") as error:
        one(f"{server.address}/a.txt", cache)
    assert "network" in error.value.remedy


def test_a_silent_host_is_not_waited_for_twice(server: FileServer, cache, monkeypatch):
    urls = [server.put(name, CONTENT) for name in ("a.txt", "b.txt", "c.txt")]
    locate("s", SourceConfig(files=urls), cache)
    asked = []

    def head(self, url, **_):
        asked.append(url)
        raise requests.ConnectTimeout("timed out")

    monkeypatch.setattr(requests.Session, "head", head)
    assert len(locate("s", SourceConfig(files=urls), cache)) == 3
    assert asked == urls[:1]


@pytest.mark.parametrize("record", ["", "{}", "[]", "{"])
def test_a_download_without_its_record_is_not_trusted(server: FileServer, cache, record):
    url = server.put("a.txt", CONTENT)
    path = one(url, cache).fetch()
    path.write_bytes(CONTENT[::-1])
    path.with_name("a.txt.json").write_text(record)
    assert one(url, cache).fetch().read_bytes() == CONTENT


def test_a_download_cut_short_on_the_disk_is_fetched_again(server: FileServer, cache):
    url = server.put("a.txt", CONTENT)
    path = one(url, cache).fetch()
    path.write_bytes(CONTENT[:-1])
    assert one(url, cache).fetch().read_bytes() == CONTENT


def test_a_full_disk_passes_with_its_number_and_keeps_the_part(server: FileServer, cache, monkeypatch):
    url = server.put("a.txt", CONTENT)
    file = one(url, cache)

    def full(self, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download.Progress, "add", full)  # called right after each write
    with pytest.raises(OSError, match="No space") as error:
        file.fetch()
    assert error.value.errno == errno.ENOSPC
    (part,) = cache.rglob("a.txt.partial")
    have = part.stat().st_size
    assert have > 0
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert one(url, cache).fetch().read_bytes() == CONTENT
    assert server.ranges() == [None] + ([f"bytes={have}-"] if have < len(CONTENT) else [])


def test_kill_9_and_go_on(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, cut=30_000, stall=True)
    code = (
        "import sys; from pathlib import Path; from clp_transfer.prepare.job import SourceConfig;"
        "from clp_transfer.prepare.sources import locate;"
        "locate('s', SourceConfig(files=[sys.argv[1]]), Path(sys.argv[2]))[0].fetch()"
    )
    process = subprocess.Popen([sys.executable, "-c", code, url, str(cache)])
    assert server.stalled.wait(30)
    for _ in range(500):
        parts = list(cache.rglob("a.txt.partial"))
        if parts and parts[0].stat().st_size == 30_000:
            break
        with pytest.raises(subprocess.TimeoutExpired):  # still running
            process.wait(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert one(url, cache).fetch().read_bytes() == CONTENT
    assert server.ranges() == [None, "bytes=30000-"]
    assert in_cache(cache) == ["a.txt", "a.txt.json"]


def test_a_file_compressed_on_the_way_is_refused_unless_it_is_named_so(server: FileServer, cache):
    url = server.put("a.txt", CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(UserError, match="is sent as gzip"):
        one(url, cache).fetch()
    url = server.put("a.txt.gz", CONTENT, headers={"Content-Encoding": "gzip"})
    assert one(url, cache).fetch().read_bytes() == CONTENT  # as it is stored, not unpacked
    assert all(seen.headers["Accept-Encoding"] == "identity" for seen in server.seen)


def test_names_and_secrets():
    assert shown("https://me:secret@host:80/a.gz?key=1") == "https://host:80/a.gz"
    assert file_name("https://host/x/a%20b.txt.gz?download=1") == "a_b.txt.gz"
    assert file_name("https://host/get?id=7#part.jsonl.gz") == "part.jsonl.gz"
    assert file_name("https://host/") == "download"
    assert file_name("https://host/..%2f..%2f.bashrc") == "bashrc"


def test_no_terminal_no_bar(server: FileServer, cache, capfd, caplog):
    caplog.set_level(logging.INFO)
    one(server.put("a.txt", CONTENT), cache).fetch()
    assert capfd.readouterr().err == ""
    assert f"downloading {server.address}/a.txt" in caplog.text
