from __future__ import annotations

import hashlib
import logging

import huggingface_hub
import pytest
from tiny.server import HubServer, Repository

from clp_transfer.errors import UserError
from clp_transfer.prepare.job import CorpusConfig, DataConfig, HubConfig, PrepareJob, SourceConfig
from clp_transfer.prepare.sources import locate

PARQUET = "refs/convert/parquet"


def find(config: HubConfig, cache):
    return locate("s", SourceConfig(reader="text", hub=config), cache)


@pytest.fixture
def oscar(hub: HubServer) -> Repository:
    """A data set with its Parquet conversion: one split of twelve files, one of which only the first part is there."""
    repository = hub.add("old/oscar")
    repository.commit("main", {"README.md": b"# OSCAR", "data/de_10.jsonl": b"ten", "data/de_2.jsonl": b"two"})
    shards = {f"de/train/{number:04d}.parquet": b"shard %d" % number for number in range(12)}
    more = {"de/partial-test/0000.parquet": b"part", "fr/train/0000.parquet": b"french"}
    repository.commit(PARQUET, {**shards, **more})
    return repository


def test_the_parquet_conversion_at_its_commit(hub, oscar, cache):
    files = find(HubConfig("old/oscar", "de"), cache)
    commit = oscar.refs[PARQUET]
    assert [f.name for f in files] == [f"hf://datasets/old/oscar/de/train/{n:04d}.parquet" for n in range(12)]
    assert {f.revision for f in files} == {commit}
    assert files[3].fingerprint == hashlib.sha256(b"shard 3").hexdigest()
    assert (files[3].size, files[3].member) == (7, None)
    assert not hub.ranges("0003.parquet")  # nothing is fetched yet
    path = files[3].fetch()
    assert path.read_bytes() == b"shard 3"
    assert path.name == "0003.parquet"
    assert path.is_relative_to(cache / "hub")
    assert files[3].fetch() == path
    assert len(hub.ranges("0003.parquet")) == 1


def test_named_files_in_natural_order_pattern_after_pattern(oscar, cache):
    files = find(HubConfig("old/oscar", files=["*.md", "data/*.jsonl", "**/de_2.jsonl"]), cache)
    assert [f.name.rpartition("/")[2] for f in files] == ["README.md", "de_2.jsonl", "de_10.jsonl"]
    assert [f.fetch().read_bytes() for f in files] == [b"# OSCAR", b"two", b"ten"]
    assert files[1].fingerprint == hashlib.sha1(b"two").hexdigest()


def test_the_same_files_at_a_new_commit_keep_their_fingerprints(oscar, cache):
    config = HubConfig("old/oscar", files=["data/*"])
    before = find(config, cache)
    oscar.commit("main", {"data/de_10.jsonl": b"ten", "data/de_2.jsonl": b"changed"})
    after = find(config, cache)
    assert [f.fingerprint for f in before][1] == [f.fingerprint for f in after][1]
    assert before[0].fingerprint != after[0].fingerprint
    assert after[0].fetch().read_bytes() == b"changed"
    assert before[0].fetch().read_bytes() == b"two"  # at its own commit
    pinned = HubConfig("old/oscar", files=["data/*"], revision=before[0].revision)
    assert find(pinned, cache) == before


def test_a_new_commit_of_the_same_content_changes_no_plan(oscar, tmp_path, cache):
    def key(*revisions: str | None) -> str:
        hubs = [HubConfig("old/oscar", files=["data/*"], revision=revision) for revision in revisions]
        sources = {f"part{i}": SourceConfig(hub=hub) for i, hub in enumerate(hubs)}
        return PrepareJob(DataConfig({"de": CorpusConfig(sources)}), tmp_path / "data", cache, seed=1).plan().key

    files = {"data/de_10.jsonl": b"ten", "data/de_2.jsonl": b"two"}
    one, first = key(None), oscar.refs["main"]
    second = oscar.commit("main", {**files, "README.md": b"# more words"})
    assert second != first and key(None) == one
    oscar.commit("main", {**files, "data/de_2.jsonl": b"changed"})
    assert key(None) != one
    # The same file of two commits is told apart in both.
    for other in ("main", "stable"):
        oscar.commit("main", files)
        oscar.commit("stable", {**files, "README.md": b"# OSCAR"})
        both = key("main", "stable")
        oscar.commit(other, {**files, "data/de_2.jsonl": b"changed again"})
        assert key("main", "stable") != both


def test_a_file_that_no_reader_goes_with_is_told_before_any_download(hub, oscar, cache):
    with pytest.raises(UserError, match=r"old/oscar/README\.md: no reader goes with this name"):
        locate("s", SourceConfig(hub=HubConfig("old/oscar", files=["*.md"])), cache)
    assert not hub.ranges("README.md")


@pytest.mark.parametrize(
    "config, problem, remedy",
    [
        (HubConfig(), "names no data set", "owner/name"),
        (HubConfig("old/oscr"), "no data set old/oscr", "check hub.dataset"),
        (HubConfig("old//oscar"), "no name on the hub", "owner/name"),
        (HubConfig("old/oscar", "de", "test"), "converted only the first part of de/test", "de/partial-test/*.parquet"),
        (HubConfig("old/oscar", "fr", "trian"), "no config and split fr/trian", "it has fr/train"),
        (HubConfig("old/oscar", revision="v2", files=["*"]), "no revision v2", "a tag"),
        (HubConfig("old/oscar", files=["data/*.gz"]), r"data/\*.gz matches no file", "data/de_2.jsonl"),
        (HubConfig("old/oscar", files=["gone/*.gz"]), r"gone/\*.gz matches no file", "README.md"),
        (HubConfig("old/oscar", files=["a**b/x"]), r"a\*\*b/x", "mend the pattern"),
        (HubConfig("raw/only"), "no Parquet conversion of raw/only", "it has part_2.txt.gz, part_10.txt.gz"),
    ],
)
def test_what_is_not_there(hub, oscar, cache, config, problem, remedy):
    hub.add("raw/only").commit("main", {"part_10.txt.gz": b"10", "part_2.txt.gz": b"2"})
    with pytest.raises(UserError, match=problem) as error:
        find(config, cache)
    assert remedy in error.value.remedy


def test_the_first_part_can_be_asked_for_as_the_remedy_says(oscar, cache):
    (file,) = find(HubConfig("old/oscar", revision=PARQUET, files=["de/partial-test/*.parquet"]), cache)
    assert file.fetch().read_bytes() == b"part"


def test_a_gated_data_set_says_what_to_accept_and_where_the_token_goes(hub, cache, monkeypatch):
    repository = hub.add("shut/away", gated=True, token="hf_right")
    repository.commit("main", {"a.parquet": b"secret"})
    config = HubConfig("shut/away", files=["*.parquet"])
    for token in (None, "hf_wrong"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UserError, match="shut/away is gated") as error:
            find(config, cache)
        assert f"{hub.address}/datasets/shut/away" in error.value.remedy
        assert "HF_TOKEN" in error.value.remedy
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    (file,) = find(config, cache)
    repository.token = "hf_other"  # taken back between the list and the download
    with pytest.raises(UserError, match="shut/away is gated"):
        file.fetch()
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert file.fetch().read_bytes() == b"secret"


def test_a_download_that_breaks_off_is_gone_on_with(hub, oscar, cache, monkeypatch):
    content = bytes(range(256)) * 100
    sha = oscar.commit("main", {"big.parquet": content})
    oscar.commits[sha]["big.parquet"].cut = 10_000
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1_000)  # what is kept of a broken response
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    (file,) = find(HubConfig("old/oscar", files=["big.parquet"]), cache)
    assert file.fetch().read_bytes() == content
    assert hub.ranges("big.parquet") == [None, "bytes=10000-"]


def test_what_a_killed_download_left_is_removed(oscar, cache):
    (file, *_) = find(HubConfig("old/oscar", "de"), cache)
    stale = cache / "hub" / "datasets--old--oscar" / "blobs" / "ab.12345678.incomplete"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"x")
    file.fetch()
    assert not stale.exists()


@pytest.mark.parametrize("away", ["stopped", "offline"])
def test_without_the_hub_the_list_of_the_last_time_does(hub, oscar, cache, away, monkeypatch, caplog):
    config = HubConfig("old/oscar", "de")
    before = find(config, cache)
    path = before[0].fetch()
    if away == "stopped":
        hub.stop()
    else:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.file_download.time, "sleep", lambda _: None)
    after = find(config, cache)
    assert after == before
    assert after[0].fetch() == path
    assert "using its list of the last time" in caplog.text
    with pytest.raises(UserError, match=r"de/train/0001\.parquet of the data set old/oscar cannot be downloaded"):
        after[1].fetch()
    with pytest.raises(UserError, match="cannot be asked about the data set old/oscar") as error:
        find(HubConfig("old/oscar", "fr"), cache)
    assert "HF_HUB_OFFLINE" in error.value.remedy


def test_a_hub_out_of_order(hub, oscar, cache, monkeypatch):
    monkeypatch.setattr(hub, "answer", lambda request: hub.say(request, 500))
    with pytest.raises(UserError, match=r"cannot be asked about the data set old/oscar: .*500"):
        find(HubConfig("old/oscar", "de"), cache)


def test_a_full_disk_passes_with_its_number(oscar, cache, monkeypatch):
    (file, *_) = find(HubConfig("old/oscar", "de"), cache)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    with pytest.raises(OSError, match="No space") as error:
        file.fetch()
    assert error.value.errno == 28


def test_the_log_says_what_is_downloaded(oscar, cache, caplog):
    caplog.set_level(logging.INFO)
    find(HubConfig("old/oscar", "de"), cache)[0].fetch()
    assert "downloading de/train/0000.parquet of old/oscar" in caplog.text
