"""What an evaluation keeps, goes on with, tries again and counts as the same."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tiny.ranks import evaluate, on_two_ranks

from clp_transfer.errors import UserError
from clp_transfer.evaluate import run
from clp_transfer.evaluate.job import EvaluateConfig, EvaluateJob
from clp_transfer.files import locked, read_json
from clp_transfer.manifest import is_complete


@pytest.fixture
def job(world, tmp_path) -> EvaluateJob:
    """The helper on two texts of different length."""
    (tmp_path / "news.txt").write_text("\n\n".join(world.german[:4]))
    (tmp_path / "novels.txt").write_text(world.german[5])
    texts = {name: [tmp_path / f"{name}.txt"] for name in ("news", "novels")}
    config = EvaluateConfig(window=16, threads=1, bootstrap=0, prompts=[])
    return EvaluateJob(world.helper, None, None, [], config, tmp_path / "out", 1, texts=texts, cache=tmp_path)


def stop_after(count: int, monkeypatch) -> list[str]:
    """Interrupt the run after so many texts; the names of those that are measured."""
    measured, score = [], run.score

    def counted(likelihood, text, cutting):
        if len(measured) == count:
            raise KeyboardInterrupt
        measured.append(text.name)
        return score(likelihood, text, cutting)

    monkeypatch.setattr(run, "score", counted)
    return measured


def test_texts_in_another_order_go_on_with_their_own_scores(job, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(job)
    other = replace(job, texts=dict(reversed(job.texts.items())))
    assert other.plan().key == job.plan().key
    measured = stop_after(9, monkeypatch)
    run.evaluate(other)
    assert measured == ["novels"]
    found = read_json(job.out / "results.json")["texts"]
    assert (found["news"]["documents"], found["novels"]["documents"]) == (4, 1)


def test_scores_of_another_precision_are_not_gone_on_with(job, monkeypatch) -> None:
    """The plan leaves the precision open; a run that began on another kind of machine is measured anew."""
    with monkeypatch.context() as patch:
        stop_after(1, patch)
        with pytest.raises(KeyboardInterrupt):
            run.evaluate(job)
    measured = stop_after(9, monkeypatch)
    monkeypatch.setattr(run, "default_precision", lambda _: "bf16")
    run.evaluate(job)
    assert measured == ["news", "novels"]
    assert {text["precision"] for text in read_json(job.out / "results.json")["texts"].values()} == {"bf16"}


def test_a_failed_task_is_tried_again_and_nothing_else(job, monkeypatch) -> None:
    errors = ["no network", None]

    def zero_shot(model, tokenizer, names, **_):
        return {name: {"acc": 0.5, "error": errors.pop(0)} for name in names}

    monkeypatch.setattr("clp_transfer.evaluate.zero_shot.zero_shot", zero_shot)
    job = replace(job, tasks=["xnli_de"])
    measured = stop_after(2, monkeypatch)
    run.evaluate(job)
    assert is_complete(job.plan()) and job.has_failed_tasks()
    first = read_json(job.out / "results.json")
    run.evaluate(job)
    assert measured == ["news", "novels"]
    second = read_json(job.out / "results.json")
    assert is_complete(job.plan()) and not job.has_failed_tasks()
    assert second["texts"] == first["texts"] and second["tasks"]["xnli_de"]["error"] is None
    assert {path.name for path in job.out.iterdir()} == {"results.json", "manifest.json"}


def test_the_stage_asks_for_failed_tasks(job, monkeypatch) -> None:
    from clp_transfer.cli import stages

    ran = []
    monkeypatch.setattr(stages.jobs, "evaluate_job", lambda _: replace(job, tasks=["xnli_de"]))
    rows = [{"error": "no network"}, {"error": None}]
    monkeypatch.setattr("clp_transfer.evaluate.zero_shot.zero_shot", lambda *_, **__: {"xnli_de": rows[len(ran) - 1]})
    evaluate_it = run.evaluate
    monkeypatch.setattr(run, "evaluate", lambda job: ran.append(job) or evaluate_it(job))
    for _ in range(4):
        stages.evaluate(None)
    assert len(ran) == 2


def test_what_cannot_change_the_result_does_not_run_it_again(job) -> None:
    key = job.plan().key
    for same in ({"threads": 2}, {"batch_size": 7}, {"revision": "main"}):
        assert replace(job, config=replace(job.config, **same)).plan().key == key
    for other in ({"precision": "bf16"}, {"window": 8}, {"fewshot": 1}):
        assert replace(job, config=replace(job.config, **other)).plan().key != key


def test_the_same_bytes_read_as_another_kind_of_file_are_another_text(job, tmp_path) -> None:
    keys = set()
    for name in ("a.jsonl", "a.txt", "b.TXT", "a.txt.gz"):
        (tmp_path / name).write_text('{"text": "der Hund"}\n')
        keys.add(replace(job, texts={"a": [tmp_path / name]}).plan().key)
    assert len(keys) == 3  # a.txt and b.TXT are read alike


def test_every_rank_is_told_that_another_process_writes(job, tmp_path) -> None:
    with locked(job.plan().lock):
        told = on_two_ranks(evaluate, job, tmp_path / "notes")
    assert all(f"is already writing {job.out}" in one for one in told)


def test_a_folder_that_cannot_be_written_is_told_as_such(job, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        run.evaluate(replace(job, out=tmp_path / "file" / "out"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"model": Path("/nowhere/model"), "is_own": True},
            r"not been trained yet.*\n.*train it first: python train.py",
        ),
        ({"texts": {}, "validation_pack": Path("/nowhere/target")}, r"nothing to measure on.*\n.*texts=\{news"),
        ({"tasks": ["clp_gnad10"], "data_dir": Path("/nowhere")}, "data_dir=/nowhere: there is no such folder"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_loaded(job, changes, what) -> None:
    with pytest.raises(UserError, match=what):
        replace(job, **changes).plan()


def test_a_folder_without_a_tokenizer(job, world, tmp_path) -> None:
    folder = Path(shutil.copytree(world.helper, tmp_path / "bare"))
    for path in folder.glob("*token*"):
        path.unlink()
    with suppress(FileNotFoundError):
        (folder / "special_tokens_map.json").unlink()
    with pytest.raises(UserError, match="has no tokenizer that can be loaded") as told:
        run.evaluate(replace(job, model=folder))
    assert not told.value.problem.endswith(":")
