"""The documents of the paper's German tasks: from the hub, or from JSON lines in a folder of your own (`data_dir`).

lm-evaluation-harness loads this file by its path, with or without the package around it: it imports nothing of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

CONVERTED = "refs/convert/parquet"  # the hub's own copy of a data set that is a Python script


class DataError(ValueError):
    """A document that the task cannot use; the message names the file and the line."""


class Source(NamedTuple):
    """Where a task's documents are.

    `hub`: arguments of `datasets.load_dataset`; `hub_files`: the files of each split, where the data set does not
    say it; `test`, `train`: the local files' names; `fields`: the texts of a document; `label`: the field of the
    answer, and `values`, its values in the order of the choices. `skip_unknown`: leave out documents with another
    label, as the paper's harness does. `train_only`: a field and the value it has in usable training documents.
    """

    hub: dict[str, str]
    test: str
    train: str | None
    fields: tuple[str, ...]
    label: str | None = None
    values: tuple[str, ...] = ()
    hub_files: dict[str, str] | None = None
    skip_unknown: bool = False
    train_only: tuple[str, str] | None = None


GERMEVAL2018 = ({"path": "philschmid/germeval18"}, "germeval2018_test", "germeval2018_train", ("text",))
TOPICS = ("Web", "Panorama", "International", "Wirtschaft", "Sport", "Inland", "Etat", "Wissenschaft", "Kultur")

SOURCES = {
    "oscar_ppl_de": Source(
        {"path": "malteos/wechsel_de"},
        "oscar_ppl_de_test",
        None,
        ("text",),
        hub_files={"test": "valid.random_1636.json.gz"},
    ),
    # The synchronous test set, not filtered by relevance; training documents are.
    "germeval2017": Source(
        {"path": "malteos/germeval2017"},
        "germeval2017_test_syn",
        "germeval2017_train",
        ("text",),
        "sentiment",
        ("positive", "negative", "neutral"),
        hub_files={"test": "test_syn-2017-09-15.csv", "train": "train-2017-09-15.csv"},
        skip_unknown=True,
        train_only=("relevance", "true"),
    ),
    "germeval2018_coarse": Source(*GERMEVAL2018, "binary", ("OTHER", "OFFENSE")),
    "germeval2018_fine": Source(*GERMEVAL2018, "multi", ("OTHER", "INSULT", "ABUSE", "PROFANITY")),
    "gnad10": Source({"path": "community-datasets/gnad10"}, "gnad10_test", "gnad10_train", ("text",), "label", TOPICS),
    "xnli_de": Source(
        {"path": "facebook/xnli", "name": "de"},
        "xnli_de_test",
        "xnli_de_train",
        ("premise", "hypothesis"),
        "label",
        ("entailment", "neutral", "contradiction"),
    ),
    "pawsx_de": Source(
        {"path": "google-research-datasets/paws-x", "name": "de"},
        "pawsx_de_test",
        "pawsx_de_train",
        ("sentence1", "sentence2"),
        "label",
        ("different", "paraphrase"),
    ),
    "xstance_de": Source(
        {"path": "strombergnlp/x-stance", "revision": CONVERTED},
        "xstance_de_test",
        "xstance_de_train",
        ("question", "comment"),
        "label",
        ("AGAINST", "FAVOR"),
        hub_files={"test": "de/test/*.parquet", "train": "de/train/*.parquet"},
    ),
}


def load(source: str, data_dir: str | None = None, train: bool = False, **_: Any) -> dict[str, Any]:
    """The splits `test` and, where asked for, `train` of a task: `datasets.Dataset`s with the fields and `label`.

    What the harness calls with the task file's `dataset_kwargs` (`source`) and `metadata` (`data_dir`, `train`).
    `data_dir`: read `<data_dir>/<name>.jsonl` instead of the hub. A label is a number (0 is the first choice) or the
    name of a value.

    Raises DataError naming file and line, FileNotFoundError, and what the hub raises.
    """
    from datasets import Dataset

    return {
        split: Dataset.from_list(list(_documents(SOURCES[source], split, data_dir)))
        for split in ("test", "train")[: 2 if train else 1]
    }


def local_file(source: str, split: str, data_dir: str | Path) -> Path | None:
    """The file of a split below `data_dir`, there or not; None for a task that has no such split."""
    name = getattr(SOURCES[source], split)
    return None if name is None else Path(data_dir) / f"{name}.jsonl"


def _documents(source: Source, split: str, data_dir: str | None) -> Iterator[dict[str, Any]]:
    """The split's usable documents: the text fields, and `label` as the number of a choice."""
    found = 0
    for where, row in _hub_rows(source, split) if data_dir is None else _local_rows(source, split, data_dir):
        if source.skip_unknown and (row.get("text") is None or row.get(source.label or "") not in source.values):
            continue
        if split == "train" and source.train_only:
            field, value = source.train_only
            if str(row.get(field)).lower() != value:
                continue
        found += 1
        yield _document(source, where, row)
    if not found:
        raise DataError(f"{source.test if split == 'test' else source.train}: no usable document")


def _document(source: Source, where: str, row: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for field in source.fields:
        if not isinstance(row.get(field), str):
            raise DataError(f"{where}: the field {field!r} is {row.get(field, 'missing')!r}, a text is expected")
        document[field] = row[field]
    if source.label is not None:
        document["label"] = _label(source, where, row)
    return document


def _label(source: Source, where: str, row: dict[str, Any]) -> int:
    if source.label not in row:
        raise DataError(f"{where}: the field {source.label!r} is missing")
    value = row[source.label]
    if isinstance(value, str) and value in source.values:
        return source.values.index(value)
    if type(value) is int and 0 <= value < len(source.values):
        return value
    allowed = ", ".join(source.values)
    raise DataError(f"{where}: {source.label} is {value!r}, not 0 to {len(source.values) - 1} or one of {allowed}")


def _local_rows(source: Source, split: str, data_dir: str) -> Iterator[tuple[str, dict[str, Any]]]:
    name = getattr(source, split)
    if name is None:
        raise FileNotFoundError(f"the task has no {split} documents")
    path = Path(data_dir) / f"{name}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    # Not str.splitlines, which also splits at line separators inside a text.
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}") from error
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not JSON ({error.msg}): {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise DataError(f"{where}: a JSON object is expected, found {line[:60]!r}")
        yield where, row


def _hub_rows(source: Source, split: str) -> Iterable[tuple[str, dict[str, Any]]]:
    import datasets

    if split == "train" and source.train is None:
        raise FileNotFoundError("the task has no train documents")
    options: dict[str, Any] = dict(source.hub)
    if source.hub_files:
        options["data_files"] = {split: source.hub_files[split]}
        if source.hub_files[split].endswith(".csv"):
            # Or "True" becomes a boolean, and an empty text a number.
            names = ("id", "text", "relevance", "sentiment", "aspect_polarity")
            options["features"] = datasets.Features({name: datasets.Value("string") for name in names})
    loaded = datasets.load_dataset(**options, split=split)
    return ((f"{options['path']}, {split} document {number}", row) for number, row in enumerate(loaded, 1))
