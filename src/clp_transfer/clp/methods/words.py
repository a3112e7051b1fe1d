"""Word vectors and bilingual dictionaries from files, for wechsel."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import embedding_bag

from clp_transfer.clp.methods.auxiliary import INSTALL, Vectors
from clp_transfer.clp.vocabulary.keys import Key
from clp_transfer.errors import UserError

# The files are sorted by frequency: so many words of a text file are read, so many searched for a token.
READ = 200_000
SEARCHED = 100_000
FORMATS = "a word2vec text file (.vec, .txt, also .gz) or a fastText model (.bin)"


def load_vectors(option: str, value: str | None) -> Any:
    """gensim's KeyedVectors from the file that the option names: fastText with its subwords for `.bin`, else text.

    Raises UserError where the option is not set, the file is missing or not in that format, or gensim is not there.
    """
    path = _file(option, value, FORMATS)
    try:
        from gensim.models import KeyedVectors
        from gensim.models.fasttext import load_facebook_vectors
    except ImportError:
        raise UserError("method=wechsel needs gensim, which is not installed", INSTALL) from None
    try:
        if path.name.endswith((".bin", ".bin.gz")):
            return load_facebook_vectors(str(path))
        return KeyedVectors.load_word2vec_format(str(path), limit=READ)
    except Exception as error:  # what the two readers raise for a file of another kind is nowhere limited
        reason = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"{option}={path} cannot be read as word vectors: {reason}", f"give {FORMATS}") from None


def load_dictionary(value: str | None) -> list[tuple[str, str]]:
    """The pairs of the file that `dictionary` names, one `source word<tab>target word` a line, blank lines skipped.

    Raises UserError where there is no such file or a line is not of that form.
    """
    form = "one pair a line, in UTF-8: source word, tab, target word"
    path = _file("dictionary", value, f"a file with {form}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"dictionary={path} is not UTF-8: byte {error.start}", f"save it as {form}") from None
    pairs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        words = [word.strip() for word in line.split("\t")]
        if len(words) != 2 or not all(words):
            raise UserError(
                f"dictionary={path}, line {number}: expected two words, found {line[:80]!r}", f"write {form}"
            )
        pairs.append((words[0], words[1]))
    return pairs


def token_vectors(keys: list[Key], vectors: Any) -> Vectors:
    """A vector for each token, as WECHSEL makes them (Minixhofer et al. 2022, section 3.2); zeros for none.

    With subwords: fastText's vector of the token's text, spaces stripped. Without: Σ f_w v_w / Σ f_w over the words w
    that contain the text (that begin with it, for a token that starts a word), with f_w = 1 / rank, Zipf's law in
    place of counts. Tokens that are no valid text, or only spaces, have none.
    """
    texts = [_text(key) for key in keys]
    if hasattr(vectors, "vectors_ngrams"):
        none: NDArray[np.float32] = np.zeros(vectors.vector_size, dtype=np.float32)
        with _quiet("gensim.models.fasttext"):
            rows = [vectors.get_vector(text) if text else none for text in texts]
        return Vectors(torch.from_numpy(np.stack([none, *rows])[1:]).float())
    ranks = _containing(keys, texts, vectors.index_to_key[:SEARCHED])
    flat = torch.tensor([rank for found in ranks for rank in found], dtype=torch.long)
    if not len(flat):
        return Vectors(torch.zeros(len(keys), vectors.vector_size))
    counts = torch.tensor([len(found) for found in ranks])
    table = torch.from_numpy(vectors.vectors[:SEARCHED]).float()
    weights = 1 / (flat + 1).float()
    sums = embedding_bag(flat, table, counts.cumsum(0) - counts, per_sample_weights=weights, mode="sum")
    totals = torch.zeros(len(keys)).index_add_(0, torch.repeat_interleave(torch.arange(len(keys)), counts), weights)
    return Vectors(sums / totals.clamp(min=1e-30)[:, None])


def _containing(keys: list[Key], texts: list[str], words: list[str]) -> list[list[int]]:
    """For each token the ranks of the words that contain its text."""
    found: list[list[int]] = [[] for _ in keys]
    beginning: dict[str, list[int]] = {}
    anywhere: dict[str, list[int]] = {}
    for position, (key, text) in enumerate(zip(keys, texts, strict=True)):
        if text:
            (beginning if key.word_start else anywhere).setdefault(text, []).append(position)
    longest = max(map(len, texts), default=0)
    for rank, word in enumerate(words):
        size = len(word)
        parts = {word[i:j] for i in range(size) for j in range(i + 1, min(size, i + longest) + 1)} & anywhere.keys()
        for part in parts:
            for position in anywhere[part]:
                found[position].append(rank)
        for j in range(1, min(size, longest) + 1):
            for position in beginning.get(word[:j], ()):
                found[position].append(rank)
    return found


def _text(key: Key) -> str:
    try:
        return key.spelled.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""


def _file(option: str, value: str | None, expected: str) -> Path:
    if value is None:
        raise UserError(f"method=wechsel needs {option}", f"set {option} to {expected}")
    path = Path(value).expanduser()
    if not path.is_file():
        raise UserError(f"{option}={path} is not a file", f"set {option} to {expected}")
    return path


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the log of that name: gensim warns of every text that is shorter than its subwords."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
