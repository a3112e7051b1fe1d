"""What the transfer stage is asked to do, and what determines its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from clp_transfer.files import sha256_file, sha256_json
from clp_transfer.hashes import Ahead
from clp_transfer.manifest import Plan, promised_digest

AUTO, CALIBRATE = "auto", "calibrate"
OWN_TOKENIZER = "own"  # the source is kept with its own tokenizer
LINKS = ("never", "auto")


@dataclass
class MethodConfig:
    """How the rows of tokens that the source lacks are made; an option counts where the method reads it.

    `weighting`: what clp makes of the cosines: `plain` (the paper), `softmax` or `sparsemax`; `temperature` divides
    them for the latter two. `top_k`: only so many nearest tokens (null: the method's own, all for clp, 10 for
    clp-topk and wechsel). `negative`: `keep` negative cosines (the paper) or `cut` them. `centre`: take the mean of
    the overlap's helper rows away first. `norms`: `keep`, or `source`: scale every new row, whatever the
    method, to the mean norm of the overlap's rows in the source.
    `ridge`: the penalty of the fitted map, as a share of the features' mean variance; null: chosen by leave-one-out.
    `features`: what ridge maps from: `helper`, `pieces` (the mean of the source's pieces) or both; null: the helper,
    for calibrate both. `frequency_power`: tokens weigh in the fit by their count in the text to this power; null: 0
    (no text is needed), for calibrate 0.5.
    `atoms`: the most source tokens that omp combines. `shrink`: how far gaussian draws its rows in towards the mean.
    `share`: of ridge in the blend of ridge and fvt.
    `vectors`, `source_vectors`, `dictionary`: files for wechsel: target and source word vectors (word2vec text or
    fastText binary) and a bilingual dictionary (`source word<tab>target word` a line).
    `focus_epochs`, `focus_dimension`: the fastText vectors that focus trains on the target text.
    `candidates`: what auto chooses from; `folds`: into how many parts it cuts the overlap.
    `start`: the method whose rows calibrate starts from; `tokens`: on how many tokens of text it trains, in steps of
    `batch` windows of `window` tokens; `rate`: its peak rate, as a share of the source rows' standard deviation.
    """

    name: str = "clp"
    weighting: str = "plain"
    top_k: int | None = None
    temperature: float = 0.1
    negative: str = "keep"
    centre: bool = False
    norms: str = "keep"
    ridge: float | None = None
    features: list[str] | None = None
    frequency_power: float | None = None
    atoms: int = 64
    shrink: float = 1.0
    share: float = 0.5
    vectors: str | None = None
    source_vectors: str | None = None
    dictionary: str | None = None
    focus_epochs: int = 3
    focus_dimension: int = 100
    candidates: list[str] = field(default_factory=lambda: ["clp", "clp-topk", "ridge", "fvt", "blend", "mean"])
    folds: int = 5
    start: str = "ridge"
    tokens: int = 60_000
    batch: int = 4
    window: int = 128
    rate: float = 0.045

    def with_defaults(self) -> MethodConfig:
        """The same with the method's own values for null options; auto leaves that to its candidates."""
        if self.name == AUTO:
            return self
        own: dict[str, Any] = {"features": ["helper"], "frequency_power": 0.0} | OWN.get(self.name, {})
        return replace(self, **{option: value for option, value in own.items() if getattr(self, option) is None})

    def read_options(self) -> dict[str, Any]:
        """The name, and those options that make a difference to this method."""
        full = self.with_defaults()
        found = {"name": self.name} | {option: getattr(full, option) for option in self._read()}
        # All rows that are made are scaled. Those methods that TRANSFERS does not list it for name it only where it
        # is set, so that models from before they did so stay what they are.
        makes_rows = self.name in TRANSFERS and self.name != OWN_TOKENIZER
        return found | ({"norms": self.norms} if makes_rows and self.norms != "keep" else {})

    def _read(self) -> list[str]:
        """The options of this method, and of those that it uses in its turn."""
        uses = {AUTO: self.candidates, CALIBRATE: [self.start]}
        pending, seen = [self.name], []
        while pending:
            name = pending.pop(0)
            if name not in seen:
                seen.append(name)
                pending += uses.get(name, [])
        return list(dict.fromkeys(option for name in seen for option in TRANSFERS.get(name, ())))

    @property
    def reads_counts(self) -> bool:
        """Whether the method weighs tokens by their counts in the text."""
        power = self.with_defaults().frequency_power or 0.0
        return power > 0 and "frequency_power" in self._read()

    @property
    def chooses(self) -> bool:
        """Whether auto chooses a method, which it can do by a validation text."""
        return AUTO in (self.name, self.start if self.name == CALIBRATE else None)

    @property
    def reads_text(self) -> bool:
        """Whether the method reads target-language text."""
        return self.reads_counts or self.name in ("focus", AUTO, CALIBRATE)


# The methods' own values of options whose default is null.
OWN: dict[str, dict[str, Any]] = {CALIBRATE: {"features": ["helper", "pieces"], "frequency_power": 0.5}}
COSINES = ("top_k", "temperature", "centre", "norms")
FIT = ("ridge", "features", "frequency_power", "norms")
# The methods that make rows for the source's body, each with the options that it reads.
TRANSFERS: dict[str, tuple[str, ...]] = {
    "random": (),
    "mean": (),
    "gaussian": ("shrink",),
    "clp": ("weighting", "negative", *COSINES),
    "clp-topk": COSINES,
    "ridge": FIT,
    "procrustes": ("norms",),
    "omp": ("atoms", "norms"),
    "fvt": ("norms",),
    "blend": ("share", *FIT),
    "wechsel": ("top_k", "temperature", "vectors", "source_vectors", "dictionary"),
    "focus": ("focus_epochs", "focus_dimension"),
    AUTO: ("candidates", "folds"),
    CALIBRATE: ("start", "tokens", "batch", "window", "rate"),
    OWN_TOKENIZER: (),
}
# Methods that use the helper's rows; the others need only its tokenizer, and so do not depend on its training.
NEEDS_HELPER = frozenset({"clp", "clp-topk", "ridge", "procrustes", "omp", "blend", CALIBRATE})


@dataclass
class TransferJob:
    """One target model to make.

    `source`, `helpers`: folders, GGUF files or hub ids. `tokenizer`: the target's, a folder or hub id; None: the
    helpers' own. `text`, `validation`: target-language text (a pack's prefix, a `.txt` or `.jsonl` file) for the
    methods that read some. `pad_to_multiple_of`: rows are added until their number is a multiple. `overwrite`: replace
    what lies at `out`. `links`: `auto` lets untouched files be hard links to the source's.
    """

    source: str | Path
    helpers: list[str | Path]
    tokenizer: str | Path | None
    method: MethodConfig
    out: Path
    seed: int = 1
    language: str = "de"
    text: Path | None = None
    validation: Path | None = None
    pad_to_multiple_of: int | None = None
    revision: str | None = None
    trust_remote_code: bool = False
    cache: Path | None = None
    overwrite: bool = False
    links: str = "never"
    device: str = "auto"

    def plan(self) -> Plan:
        """The method, the options that it reads, the seed, and the contents of what it reads.

        The contents are hashed in the background: a model that is large takes longer to hash than to transfer.
        """
        options = self.method.read_options()
        settings = {
            "method": options,
            "seed": self.seed,
            "pad": self.pad_to_multiple_of,
            "language": self.language,
        }
        inputs = {"source": self._hash(self.source)}
        if self.tokenizer is not None:
            inputs["tokenizer"] = self._hash(self.tokenizer)
        if self.tokenizer is None or self.method.name in NEEDS_HELPER or self.method.name == AUTO:
            inputs |= {f"helper{i or ''}": self._hash(helper) for i, helper in enumerate(self.helpers)}
        if self.method.reads_text:
            inputs |= {name: _text_hash(path) for name, path in self._texts().items() if path is not None}
        files = {name: options.get(name) for name in ("vectors", "source_vectors", "dictionary")}
        named = {name: Path(file).expanduser() for name, file in files.items() if file}
        inputs |= {name: partial(sha256_file, file) for name, file in named.items() if file.is_file()}
        return Plan("clp", self.out, settings, Ahead(inputs))

    @property
    def where(self) -> dict[str, Any]:
        """Where and how models are looked for, as `Ingredients.open` takes it."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code, "cache": self.cache}

    def _texts(self) -> dict[str, Path | None]:
        return {"text": self.text, "validation": self.validation if self.method.chooses else None}

    def _hash(self, name: str | Path) -> Callable[[], str]:
        """Content hash of a folder or file; of a hub model its name and revision. Computed when it is called."""
        path = Path(name).expanduser()
        if path.is_dir():
            return promised_digest(path)
        if path.is_file():
            return partial(sha256_file, path)
        return partial(sha256_json, [str(name), self.revision])


def _text_hash(path: Path) -> Callable[[], str]:
    """Content hash of a plain file, or of a pack's files."""
    return partial(sha256_file, path) if path.is_file() else promised_digest(path.parent, f"{path.name}.*")
