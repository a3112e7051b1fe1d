"""Made-up text that looks like German: compounds, capitals, umlauts and a long tail of rare words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

STARTS = "b d f g h k l m n p r s t w z br dr fr gr kl kr pf pl sch schl schw sp spr st str tr zw"
VOWELS = "a e i o u ä ö ü ei ie au eu"
ENDS = "n r l s t m ch ck nd ng nt rt st tz lt cht"
TAILS = "e en er es ung heit keit lich isch bar chen"
FUNCTION_WORDS = "der die das und in zu den von mit ist des im für auf sich nicht ein eine als auch dem es an"


def documents(total_bytes: int, seed: int, types: int = 40_000) -> Iterator[str]:
    """Documents of about 1 kB until `total_bytes` UTF-8 bytes are reached; word frequencies follow Zipf's law."""
    draw = np.random.default_rng(seed)
    words = [*FUNCTION_WORDS.split(), *made_words(types, draw)]
    shares = 1 / (np.arange(len(words)) + 2.7)
    shares /= shares.sum()
    written = 0
    while written < total_bytes:
        lengths = draw.integers(5, 20, size=12)
        chosen = iter(draw.choice(len(words), size=int(lengths.sum()), p=shares))
        sentences = [" ".join(words[next(chosen)] for _ in range(length)) for length in lengths]
        text = " ".join(s[0].upper() + s[1:] + "." for s in sentences)
        written += len(text.encode())
        yield text


def made_words(types: int, draw: np.random.Generator) -> Iterator[str]:
    """Made-up words, some of them twice."""
    return (_word(draw) for _ in range(types))


def _word(draw: np.random.Generator) -> str:
    def part(choices: str) -> str:
        return str(draw.choice(choices.split()))

    syllables = int(draw.integers(1, 4))
    word = "".join(part(STARTS) + part(VOWELS) + part(ENDS) for _ in range(syllables))
    word += part(TAILS) if draw.random() < 0.6 else ""
    return word.capitalize() if draw.random() < 0.4 else word


def write_corpus(path: Path, texts: list[str]) -> None:
    """A corpus split as the prepare stage writes it: JSON lines of `id` and `text`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": i, "text": t}, ensure_ascii=False) + "\n" for i, t in enumerate(texts))
