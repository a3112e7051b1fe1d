"""datatrove's quality filters by name. They judge whole texts: what they would cut out of one stays in it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import (
    C4ParagraphFilter,
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.word_tokenizers import WordTokenizer

from clp_transfer.errors import UserError
from clp_transfer.prepare.chunks import chunk_paths
from clp_transfer.prepare.clean import rows
from clp_transfer.prepare.clean.executor import Step
from clp_transfer.prepare.clean.reading import ReadChunk

log = logging.getLogger(__name__)

# The filters hold every word and every run of words of a text: a longer text is judged by its beginning.
LONGEST = 2_000_000
# Gopher's rule wants two of the commonest words of the language. Its own eight are English.
STOP_WORDS = {
    "de": "der die das und in zu den nicht",
    "en": "the be to of and that have with",
    "es": "de la que el en y los se",
    "fr": "de la le et les des en un",
    "it": "di e il la che in un per",
    "nl": "de het een van en in is dat",
    "pt": "de a o que e do da em",
}


class Words(WordTokenizer):  # type: ignore[misc]
    """Words and punctuation marks by a regular expression.

    datatrove's own tokenizers need spaCy, which takes twenty times as long, or data from the network. Scripts that put
    no spaces between words get a word for each character.
    """

    _WORD = re.compile(
        r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
        r"|[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]+|[^\w\s]"
    )
    # A sentence ends with its marks and closing quotes before a space or the end, or directly with an ideographic one.
    _END = re.compile(r"""[.!?…]+["'”“»«’)\]]*(?=\s|$)|[。！？]+|\n+""")

    def word_tokenize(self, text: str) -> list[str]:
        """The words of a text, in their order."""
        return self._WORD.findall(text)

    def sent_tokenize(self, text: str) -> list[str]:
        """The sentences of a text, without spaces around them."""
        return [text[start:end].strip() for start, end in self.span_tokenize(text)]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Begin and end of every sentence that is not blank."""
        ends = [found.end() for found in self._END.finditer(text)] + [len(text)]
        spans = zip([0, *ends], ends, strict=False)
        return [(start, end) for start, end in spans if text[start:end].strip()]


def _gopher_quality(language: str, words: Words) -> BaseFilter:
    stop_words = STOP_WORDS.get(language, "").split()
    if not stop_words:
        log.warning("gopher_quality: no common words known for %r: the rule that wants two of them is off", language)
    return GopherQualityFilter(stop_words=stop_words, min_stop_words=2 if stop_words else 0, language=words)


FILTERS: dict[str, Callable[[str, Words], BaseFilter]] = {
    "gopher_quality": _gopher_quality,
    "gopher_repetition": lambda _, words: GopherRepetitionFilter(language=words),
    "c4_quality": lambda _, words: C4QualityFilter(language=words),
    "c4_paragraph": lambda _, words: C4ParagraphFilter(),
    "fineweb_quality": lambda _, words: FineWebQualityFilter(language=words),
}


class MarkRows(PipelineStep):  # type: ignore[misc]
    """Write which rows of the task's chunk the filters refuse, each under the first filter that does."""

    type = "🔻 - FILTER"
    name = "quality"

    def __init__(self, filters: Sequence[str], language: str, chunks: Path, results: Path) -> None:
        super().__init__()
        words = Words()  # one object for all, so that datatrove splits a text once
        self.filters = {name: FILTERS[name](language, words) for name in filters}
        self.chunks, self.results = chunks, results

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> None:
        """Judge every text of the chunk; an empty one is one that has left the corpus before."""
        marks: rows.Marks = {}
        for row, document in enumerate(data):
            text = document.text[:LONGEST]
            for name, judge in self.filters.items() if text else ():
                document.text = text  # C4's filter cuts lines out
                keep, rule = get_filter_result(judge.filter(document))
                if not keep:
                    marks.setdefault(f"filter_{name}", {}).setdefault(rule or "", []).append(row)
                    break
        rows.write(self.results, int(chunk_paths(self.chunks)[rank].stem), marks)


def steps(filters: Sequence[str], language: str, chunks: Path, removed: Sequence[Path], results: Path) -> list[Step]:
    """What datatrove has to do; `removed`: results of earlier steps, whose rows are not judged.

    Raises UserError for a filter that there is not.
    """
    for name in filters:
        if name not in FILTERS:
            raise UserError(f"there is no quality filter {name!r}", f"clean.filters takes {', '.join(FILTERS)}")
    pipeline = [ReadChunk(chunks, removed), MarkRows(filters, language, chunks, results)]
    return [Step("filters", pipeline, len(chunk_paths(chunks)))]
