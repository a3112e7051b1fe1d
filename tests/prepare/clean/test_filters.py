"""Quality filters: what each refuses, in German, French and English, with datatrove's own rules as the oracle."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.clean import removals, rows
from clp_transfer.prepare.job import CleanConfig, ClusterConfig

from .conftest import write_corpus

pytest.importorskip("datatrove")
HERE = ClusterConfig(workers=1)

GOOD = {
    "de": """Der Müller ging am frühen Morgen durch den Wald und sah die ersten Vögel des Jahres.
Am Bach blieb er lange stehen, denn das Wasser war in der Nacht gestiegen. Er dachte an seine Mühle.
Zu Hause wartete seine Frau mit dem Frühstück; die Kinder schliefen noch. Gegen Mittag begann es zu regnen,
und niemand wollte hinaus. Erst am Abend klarte der Himmel auf. Nun konnten sie endlich nach dem Rad sehen.""",
    "fr": """Le meunier traversa la forêt de bon matin et vit les premiers oiseaux de l'année.
Il resta longtemps près du ruisseau, car l'eau avait monté pendant la nuit. Il pensait à son moulin.
À la maison, sa femme préparait un repas simple; les enfants dormaient encore. Vers midi, la pluie commença,
personne ne voulut sortir. Le soir seulement, le ciel devint clair. Ils purent enfin regarder la roue.""",
    "en": """The miller walked through the woods early that morning and saw the first birds of spring.
He stood at the brook for a long time, because water had risen during the night. He thought about his mill.
At home his wife had made breakfast with bread; their children were asleep. Towards noon it began to rain,
and nobody wanted to leave. Only in the evening did it clear up. Then they could look after the wheel.""",
}


@pytest.mark.parametrize("language", ["de", "fr", "en"])
def test_good_texts_stay_and_bad_ones_are_named(language: str, tmp_path: Path) -> None:
    other = GOOD["en" if language == "de" else "de"]
    bad = ["zu kurz", GOOD[language].replace(" ", " # "), "\n".join([GOOD[language]] * 5), other]
    chunks = write_corpus(tmp_path / "train", [[GOOD[language], *bad], ["", GOOD[language]]])
    config = CleanConfig(filters=["gopher_quality", "gopher_repetition"])
    found = removals(chunks, config, language, tmp_path / "work", HERE, None)
    quality = "filter_gopher_quality"
    assert dict(found.rows) == {0: {1: quality, 2: quality, 3: "filter_gopher_repetition", 4: quality}, 1: {}}
    assert found.counts == {quality: 3, "filter_gopher_repetition": 1}
    rules = ["gopher_short_doc", "gopher_too_many_hashes", "gopher_enough_stop_words"]
    marks = rows.read([tmp_path / "work/filters"], 0)[quality]
    assert marks == {rule: [row] for rule, row in zip(rules, (1, 2, 4), strict=True)}
    assert [example["id"] for example in found.examples[quality]] == ["0-1", "0-2", "0-4"]


def test_a_filter_that_cuts_lines_leaves_the_text_to_the_next(tmp_path: Path) -> None:
    """C4's filter drops lines without a full stop: the next filter still has to see the whole text."""
    text = "\n".join([GOOD["de"], *(f"eine Zeile ohne Punkt Nummer {n}" for n in range(40))])
    chunks = write_corpus(tmp_path / "train", [[text]])
    config = CleanConfig(filters=["c4_quality", "fineweb_quality"])
    found = removals(chunks, config, "de", tmp_path / "work", HERE, None)
    assert dict(found.rows) == {0: {0: "filter_fineweb_quality"}}
    assert rows.read([tmp_path / "work/filters"], 0) == {"filter_fineweb_quality": {"line_punct_ratio": [0]}}


def test_unknown_filter_and_missing_datatrove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = write_corpus(tmp_path / "train", [["Text"]])

    def run() -> None:
        removals(chunks, CleanConfig(filters=["gopher"]), "de", tmp_path / "work", HERE, None)

    with pytest.raises(UserError, match=r"(?s)no quality filter 'gopher'.*gopher_quality, gopher_repetition"):
        run()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"(?s)datatrove is not installed.*pip install 'clp-transfer\[clean\]'"):
        run()


def test_decontamination_alone_does_not_import_datatrove(tmp_path: Path) -> None:
    import subprocess

    code = "import sys, clp_transfer.prepare.clean; sys.exit('datatrove' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_words_and_sentences() -> None:
    from clp_transfer.prepare.clean.filters import Words

    words = Words()
    text = "„Wie geht’s?“, fragte er.\nDas kostet 3.50 Euro (ca. 4 $)… Gut!"
    assert words.word_tokenize("Größe_1: l'été, 3.5") == ["Größe_1", ":", "l", "'", "été", ",", "3", ".", "5"]
    assert words.word_tokenize("東京 tower") == ["東", "京", "tower"]
    assert words.sent_tokenize(text)[1:] == ["Das kostet 3.50 Euro (ca.", "4 $)…", "Gut!"]
    spans = words.span_tokenize(text)
    assert "".join(text[start:end] for start, end in spans).replace("\n", "") == text.replace("\n", "")
    assert "".join(words.word_tokenize(text)) == re.sub(r"\s", "", text)
    assert words.sent_tokenize("") == [] and words.word_tokenize(" \n") == []


def test_no_rule_of_common_words_where_none_are_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = "\n".join(
        f"Stari mlinar je {n}. jutro hodio kroz šumu i gledao prve ptice godine koja dolazi." for n in range(9)
    )
    chunks = write_corpus(tmp_path / "train", [[text]])
    config = CleanConfig(filters=["gopher_quality"])
    assert removals(chunks, config, "hr", tmp_path / "work", HERE, None).counts == {}
    assert "no common words known for 'hr'" in caplog.text
