from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.packed import PackedCorpus
from clp_transfer.prepare import run as module
from clp_transfer.prepare import sources
from clp_transfer.prepare.chunks import chunk_paths, read_chunk
from clp_transfer.prepare.folder import DataFolder
from clp_transfer.prepare.job import CorpusConfig, PackConfig, PrepareJob, SourceConfig, TokenizerConfig
from clp_transfer.prepare.run import prepare


def rows(path: Path) -> list[dict]:
    """JSON lines, or the documents of a folder of chunks."""
    if path.is_dir():
        pairs = (pair for chunk in chunk_paths(path) for pair in read_chunk(chunk))
        return [{"id": i, "text": t} for ids, texts in pairs for i, t in zip(ids, texts, strict=True)]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(job: PrepareJob) -> DataFolder:
    prepare(job)
    return DataFolder(job.out)


def test_the_data_folder_is_complete_and_consistent(job: PrepareJob, folder: DataFolder):
    assert manifest.is_complete(job.plan())
    assert not job.plan().working.exists()
    statistics = json.loads(folder.statistics.read_text(encoding="utf-8"))
    for corpus in job.data.corpora:
        parts = {part: rows(folder.text(corpus, part)) for part in ("train", "validation")}
        assert not {r["text"] for r in parts["train"]} & {r["text"] for r in parts["validation"]}
        for part, lines in parts.items():
            expected = {"documents": len(lines), "bytes": sum(len(r["text"].encode()) for r in lines)}
            assert statistics["corpora"][corpus][part] == expected
    for name, config in job.data.packs.items():
        tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer(config.tokenizer))
        for part in config.splits:
            packed = PackedCorpus(folder.pack(name, part))
            texts = [r["text"] for r in rows(folder.text(config.corpus, part))]
            assert [tokenizer.decode(d.tolist()) for d in packed.iter_documents()] == texts
            own = len(packed.tokens) - len(texts)
            numbers = statistics["packs"][name][part]
            assert numbers["tokens"] == len(packed.tokens)
            assert np.isclose(numbers["bytes_per_token"] * own, sum(len(t.encode()) for t in texts))


def test_the_labelled_task_and_the_corpus_share_no_entry(job: PrepareJob, folder: DataFolder):
    task = rows(folder.domain_task)
    assert len(task) == 20
    assert {r["label"] for r in task} == {0, 1, 2}
    words = {r["text"].split(":")[0] for r in task}
    ids = {r["id"] for part in ("train", "validation") for r in rows(folder.text("de", part))}
    assert not words & ids
    assert not any(i.startswith("Fach") for i in ids)
    statistics = json.loads(folder.statistics.read_text(encoding="utf-8"))
    assert statistics["domain_task"]["kept_out"] == statistics["corpora"]["de"]["left_out"]["domain_label"] == 40


def test_the_overlap_counts_equal_token_strings(job: PrepareJob, folder: DataFolder):
    vocabularies = [set(AutoTokenizer.from_pretrained(folder.tokenizer(n)).get_vocab()) for n in ("source", "target")]
    overlap = json.loads(folder.statistics.read_text(encoding="utf-8"))["overlap"]
    shared = len(vocabularies[0] & vocabularies[1])
    assert 257 <= shared < 320
    assert overlap["source-target"] == {
        "shared": shared,
        "of_first": 320,
        "of_second": 340,
        "share_of_second": shared / 340,
    }
    assert overlap["target-source"]["share_of_second"] == shared / 320


def test_two_runs_are_byte_identical_and_another_seed_is_not(job: PrepareJob, folder: DataFolder, tmp_path: Path):
    prepare(replace(job, out=tmp_path / "again"))
    prepare(replace(job, out=tmp_path / "other", seed=8))
    first, again, other = (manifest.read(p)["files"] for p in (job.out, tmp_path / "again", tmp_path / "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert first["corpora/de/validation/000000.parquet"] != other["corpora/de/validation/000000.parquet"]


def test_a_folder_of_another_config_is_refused_until_it_may_be_replaced(job: PrepareJob, folder: DataFolder):
    before = manifest.read(job.out)
    job.data.tokenizers["target"].vocab_size = 330
    with pytest.raises(UserError, match=r"data\.tokenizers\.target\.vocab_size: 340 there, 330 now") as error:
        prepare(job)
    assert "overwrite=true" in error.value.remedy and manifest.read(job.out) == before
    prepare(replace(job, overwrite=True))
    assert manifest.is_complete(job.plan())


def test_what_another_config_has_begun_is_refused_too(job: PrepareJob):
    with pytest.raises(KeyboardInterrupt), manifest.writing(replace(job, seed=8).plan()):
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="seed: 8 there, 7 now"):
        prepare(job)


def test_a_changed_file_is_noticed(job: PrepareJob, tmp_path: Path):
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": f"der Fluss {i}"}) + "\n" for i in range(300)))
    job.data.corpora["de"] = CorpusConfig({"files": SourceConfig(files=[str(texts)])}, validation_bytes=500)
    job.data.domain_task = None
    job.data.tokenizers["target"].vocab_size = 260
    prepare(job)
    assert manifest.is_complete(replace(job).plan())
    texts.write_text(texts.read_text() + json.dumps({"text": "noch ein Fluss"}) + "\n")
    with pytest.raises(UserError, match=r"texts\.jsonl: [0-9a-f]+ there, [0-9a-f]+ now"):
        prepare(replace(job))


def test_the_statistics_name_the_files_that_were_read(job: PrepareJob, tmp_path: Path):
    for number in range(4):
        lines = [json.dumps({"text": f"der Fluss {number} {i} und die Brücke"}) + "\n" for i in range(200)]
        (tmp_path / f"part_{number}.jsonl").write_text("".join(lines))
    job.data.corpora["de"] = CorpusConfig(
        {"files": SourceConfig(files=[f"{tmp_path}/part_*.jsonl"], licence="CC0-1.0")},
        split="in_order",
        train_bytes=8_000,
        validation_bytes=500,
    )
    job.data.domain_task = None
    job.data.tokenizers["target"].vocab_size = 260
    prepare(job)
    found = json.loads(DataFolder(job.out).statistics.read_text(encoding="utf-8"))["corpora"]["de"]["sources"]
    assert [Path(source["name"]).name for source in found] == ["part_0.jsonl", "part_1.jsonl"]
    assert all(source["licence"] == "CC0-1.0" and "revision" not in source for source in found)


def test_a_tokenizer_that_is_none_is_told_before_any_text_is_read(job: PrepareJob, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    job.data.tokenizers["target"].path = str(tmp_path / "empty")
    with pytest.raises(UserError, match=r"empty has no tokenizer\.json"):
        job.plan()


def test_a_job_looks_at_its_files_once(job: PrepareJob, tmp_path: Path, monkeypatch):
    prepare(replace(job))
    job.data.tokenizers["target"].path = str(DataFolder(job.out).tokenizer("source"))
    job.overwrite = True
    monkeypatch.setattr("clp_transfer.prepare.job.digest", lambda *_: looked.append("tokenizer") or "content")
    locate, looked = sources.locate, []
    monkeypatch.setattr(sources, "locate", lambda name, *more: looked.append(name) or locate(name, *more))
    assert job.plan() == job.plan()
    assert looked == ["tokenizer", "wheel", "wheel"]


@pytest.mark.parametrize("step", ["corpus de", "tokenizer source", "tokenizer target", "pack de-target validation"])
def test_killed_after_any_step_it_goes_on_and_ends_the_same(job: PrepareJob, tmp_path: Path, monkeypatch, step: str):
    once, made = module._Stage._once, []

    def dying(self, name, make):
        found = once(self, name, lambda: made.append(name) or make())
        if name == step:
            raise KeyboardInterrupt
        return found

    prepare(replace(job, out=tmp_path / "whole"))
    monkeypatch.setattr(module._Stage, "_once", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(job)
    before = [*made]
    step = ""
    prepare(job)
    assert not set(before) & set(made[len(before) :])
    assert manifest.read(job.out)["files"] == manifest.read(tmp_path / "whole")["files"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.packs.update(x=PackConfig("fr", "target")), "pack x names the corpus 'fr'"),
        (lambda d: d.packs.update(x=PackConfig("de", "none")), "pack x names the tokenizer 'none'"),
        (lambda d: d.packs.update(x=PackConfig("de", "target", ["test"])), "pack x names the split 'test'"),
        (lambda d: d.tokenizers.update(x=TokenizerConfig(model="m")), "tokenizer x names the model 'm'"),
        (lambda d: d.tokenizers.update(x=TokenizerConfig("fr")), "tokenizer x names the corpus 'fr'"),
        (lambda d: setattr(d.domain_task, "corpus", "fr"), "domain_task names the corpus 'fr'"),
        (lambda d: setattr(d.domain_task, "labels", []), "no labels"),
        (lambda d: setattr(d.corpora["de"].sources["wheel"], "reader", "oscar"), "corpus de names the reader 'oscar'"),
        (lambda d: setattr(d.corpora["de"], "split", "random"), "corpus de names the split 'random'"),
        (lambda d: setattr(d.corpora["de"], "split", "in_order"), "train has no size"),
        (lambda d: setattr(d.corpora["de"].clean, "broken", "skip"), "the clean.broken 'skip'"),
        (lambda d: setattr(d.corpora["de"].clean, "ngram", 0), "clean.ngram=0"),
        (lambda d: d.corpora["de"].sources.clear(), "corpus de has no sources"),
        (
            lambda d: setattr(d.tokenizers["target"], "vocab_size", None),
            "names the tokenizer to be like",
        ),
        (lambda d: setattr(d.tokenizers["target"], "pre_tokenizer", "bert"), "the pre_tokenizer 'bert'"),
        (lambda d: setattr(d, "encoder", "fast"), "data.encoder names the encoder 'fast'"),
        (lambda d: d.corpora.clear(), "no corpora"),
    ],
)
def test_names_that_do_not_exist_are_refused_before_any_work(job: PrepareJob, change, message: str):
    change(job.data)
    with pytest.raises(UserError, match=message):
        prepare(job)
    assert not job.out.exists()
    assert not job.out.with_name("data.partial").exists()


def test_a_corpus_without_text_is_refused_and_nothing_is_published(job: PrepareJob, make_wheel):
    job.data.corpora["en"].sources["wheel"].wheel = make_wheel("empty", "data/leads.json", b"{}")
    with pytest.raises(UserError, match="corpus en is empty") as error:
        prepare(job)
    assert error.value.remedy.endswith("after a change of the data config, add overwrite=true")
    assert not job.out.exists()


def test_a_failed_run_leaves_the_former_result_alone(job: PrepareJob, folder: DataFolder):
    before = manifest.read(job.out)
    job.data.tokenizers["target"].vocab_size, job.overwrite = 50_000, True
    with pytest.raises(UserError, match="tokenizer target: vocab_size=50000"):
        prepare(job)
    assert manifest.read(job.out) == before
