"""What the evaluate stage is asked to do, and what determines its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clp_transfer.clp.job import MethodConfig
from clp_transfer.errors import UserError
from clp_transfer.files import read_json, sha256_file, sha256_json
from clp_transfer.hashes import hash_files
from clp_transfer.hub import resolved
from clp_transfer.manifest import Plan, digest

WINDOWS = ("rolling", "strided", "stream")
PRECISIONS = ("fp32", "bf16", "fp16")
PACK = "validation"  # what the experiment's own held-out text is called beside the texts that are named
COMPRESSED = (".gz", ".xz", ".zst")
# These cannot change the result; of a hub model the plan has the commit itself.
NO_PART_OF_THE_RESULT = ("threads", "batch_size", "revision")


@dataclass
class EvaluateConfig:
    """How a model is measured: held-out text, zero-shot tasks, and the samples to write.

    `windows`: how a text is cut. `rolling`: each document alone, disjoint windows, as lm-evaluation-harness's
    `loglikelihood_rolling`; `strided`: windows that overlap, `stride` new targets each; `stream`: documents end to end,
    each with its end-of-text, as in training. `window`: most tokens that the model sees at once; null: its context.
    `batch_size`: windows at a time; null: as many as fit. `precision`: of the forward pass; null: bf16 on a GPU, fp32
    elsewhere. `max_bytes`: of each text, whole documents. `bootstrap`: resamples of documents behind an interval; 0:
    none. `fewshot`: examples before each task's question. `revision`: of a hub model. `trust_remote_code`: run its own
    code. `step0=` reads `precision`, `batch_size`, `threads` and what begins with `step0_`; it always cuts as `stream`.
    """

    windows: str = "rolling"
    window: int | None = None
    stride: int | None = None
    batch_size: int | None = None
    precision: str | None = None
    max_bytes: int | None = None
    bootstrap: int = 1000
    fewshot: int = 0
    revision: str | None = None
    trust_remote_code: bool = False
    task_documents: int | None = None
    prompts: list[str] = field(default_factory=list)
    sample_tokens: int = 40
    threads: int | None = None
    step0_window: int = 256
    step0_bytes: int = 30_000


@dataclass
class EvaluateJob:
    """Measure one model, a folder, a GGUF file or a hub id.

    `texts`: held-out texts by name, each a list of files. `validation_pack`: the experiment's, if it is to be measured
    on, which the tokenizer in the folder `tokenizer` made. `task`: the experiment's labelled task's file, or null for
    none. `tasks`: names of zero-shot tasks, with data from `data_dir` or the hub, at most `limit` documents of each.
    `cache`: where fetched and converted files are kept. `is_own`: whether the experiment itself trains the model.
    """

    model: str | Path
    validation_pack: Path | None
    task: Path | None
    labels: list[str]
    config: EvaluateConfig
    out: Path
    seed: int
    tokenizer: Path | None = None
    texts: dict[str, list[Path]] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=list)
    data_dir: Path | None = None
    limit: int | None = None
    cache: Path = Path(".cache/clp-transfer")
    is_own: bool = False

    def __post_init__(self) -> None:
        """Raise UserError for a text with the name of the experiment's own, which it would be measured instead of."""
        if self.validation_pack is not None and PACK in self.texts:
            raise UserError(
                f"texts.{PACK} has the name of the experiment's own held-out text, which is measured in any case",
                "give that text another name: texts={news: file.jsonl}",
            )

    def plan(self) -> Plan:
        """The settings and the contents of the model, the texts and the task; of a hub model its commit.

        Raises UserError where one of them is not there, or the hub cannot say which commit is meant.
        """
        inputs = {"model": self.model_key}
        if self.texts:
            inputs |= {f"text {name}": _files_hash(name, files) for name, files in self.texts.items()}
        if self.validation_pack is not None:
            if not self.validation_pack.with_suffix(".json").is_file():
                raise UserError(
                    f"there is nothing to measure on: no texts are named, and no validation pack {self.validation_pack}"
                    " has been made",
                    "name texts={news: news.jsonl} or tasks=[clp_german], or run prepare.py first",
                )
            inputs["validation"] = digest(self.validation_pack.parent, f"{self.validation_pack.name}.*")
        if self.task is not None:
            inputs["task"] = digest(self.task.parent, self.task.name)
        settings = {
            key: value
            for key, value in asdict(self.config).items()
            if not key.startswith("step0_") and key not in NO_PART_OF_THE_RESULT
        }
        settings |= {"labels": self.labels, "seed": self.seed, "limit": self.limit}
        if self.tasks:
            settings["tasks"] = self.tasks
            if self.data_dir is not None:
                inputs["data_dir"] = _folder_hash(self.data_dir)
        return Plan("evaluate", self.out, settings, inputs)

    def has_failed_tasks(self) -> bool:
        """Whether a result is there in which a task could not be measured, which is tried again."""
        results = self.out / "results.json"
        return results.is_file() and bool(failed_tasks(read_json(results)))

    @property
    def model_key(self) -> str:
        """What tells this model from all others: the content hash of its files, or the commit on the hub."""
        path = Path(self.model).expanduser()
        if self.is_own and not path.is_dir():
            raise UserError(
                f"the model to measure has not been trained yet: there is no folder {path}",
                "train it first: python train.py with the same experiment=, run=, method=, seed=",
            )
        if path.is_dir():
            return digest(path)
        return sha256_file(path) if path.is_file() else resolved(str(self.model), self.config.revision)

    @property
    def is_on_hub(self) -> bool:
        """Whether the model is no file or folder here."""
        return not Path(self.model).expanduser().exists()


def failed_tasks(results: dict[str, Any]) -> list[str]:
    """The tasks of a `results.json` that could not be measured."""
    return [name for name, row in (results.get("tasks") or {}).items() if row.get("error") is not None]


def _files_hash(name: str, files: list[Path]) -> str:
    """One hash of the contents of a text's files and how they are read; raises UserError for one that is not there."""
    for file in files:
        if not file.is_file():
            raise UserError(f"texts.{name}: there is no file {file}", "check the path: texts={name: file.jsonl}")
    return sha256_json([[_ending(file), found] for file, found in zip(files, hash_files(files).values(), strict=True)])


def _ending(file: Path) -> str:
    """What a reader is chosen by: `.txt`, `.jsonl.gz`."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    return "".join(suffixes[-2:] if suffixes and suffixes[-1] in COMPRESSED else suffixes[-1:])


def _folder_hash(data_dir: Path) -> str:
    """The content hash of the tasks' data; raises UserError where there is none."""
    remedy = "name the folder that holds the tasks' *.jsonl files"
    if not data_dir.is_dir():
        raise UserError(f"data_dir={data_dir}: there is no such folder", remedy)
    if not any(data_dir.iterdir()):
        raise UserError(f"data_dir={data_dir} is empty", remedy)
    return digest(data_dir)


@dataclass
class Step0Job:
    """Measure every method's initialisation of one source before any training.

    Beside them stands the source with its own tokenizer: `own_pack` is the same validation text in its ids. `text`:
    the training pack, for the methods that read some.
    """

    source: Path
    helpers: list[str | Path]
    tokenizer: Path
    methods: list[MethodConfig]
    pack: Path
    own_pack: Path
    config: EvaluateConfig
    out: Path
    seed: int
    text: Path | None = None

    def plan(self) -> Plan:
        """The methods and the contents of both models and of the validation text."""
        settings = {
            "methods": [m.read_options() for m in self.methods],
            "window": self.config.step0_window,
            "bytes": self.config.step0_bytes,
            "seed": self.seed,
        }
        if self.config.precision is not None:
            settings["precision"] = self.config.precision
        inputs = {
            "source": digest(self.source),
            **{f"helper{i or ''}": digest(Path(helper)) for i, helper in enumerate(self.helpers)},
            "tokenizer": digest(self.tokenizer),
            "pack": digest(self.pack.parent, f"{self.pack.name}.*"),
            "own_pack": digest(self.own_pack.parent, f"{self.own_pack.name}.*"),
        }
        if self.text is not None:
            inputs["text"] = digest(self.text.parent, f"{self.text.name}.*")
        return Plan("step0", self.out, settings, inputs)
