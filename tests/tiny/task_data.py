"""Made documents of the paper's tasks, in the format of the local files, and what the tasks must ask of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILES: dict[str, list[dict[str, Any]]] = {
    "oscar_ppl_de_test": [{"text": "Der Hund  und\ndas Haus. "}, {"text": " Die Stadt"}],
    "germeval2017_test_syn": [
        {"text": "Die Bahn ist gut", "relevance": "false", "sentiment": "positive"},
        {"text": "zu spät", "relevance": "true", "sentiment": "negative"},
        {"text": None, "relevance": "true", "sentiment": "negative"},
        {"text": "naja", "relevance": "true", "sentiment": "unknown"},
        {"text": "Zug 7", "relevance": "true", "sentiment": "neutral"},
    ],
    "germeval2017_train": [
        {"text": "schön", "relevance": "true", "sentiment": "positive"},
        {"text": "weg", "relevance": "False", "sentiment": "negative"},
    ],
    "germeval2018_test": [
        {"text": "Du Hund!", "binary": "OFFENSE", "multi": "INSULT"},
        {"text": "Haus {{text}}", "binary": "OTHER", "multi": "OTHER"},
        {"text": "der Baum", "binary": "OFFENSE", "multi": "PROFANITY"},
    ],
    "gnad10_test": [{"text": "Der Ball.", "label": 4}, {"text": "Wien", "label": 5}],
    "xnli_de_test": [
        {"premise": "Er schläft.", "hypothesis": "Er ist müde.", "label": 1},
        {"premise": "A, richtig? Ja", "hypothesis": "B", "label": 2},
    ],
    "pawsx_de_test": [
        {"sentence1": "Der Baum.", "sentence2": "Ein Baum.", "label": 1},
        {"sentence1": "Wasser", "sentence2": "Tür", "label": 0},
    ],
    "pawsx_de_train": [{"sentence1": "Haus", "sentence2": "Haus", "label": 1}],
    "xstance_de_test": [
        {"question": "Mehr Bäume?", "comment": "Ja, gern.", "label": 1},
        {"question": "Hunde frei?", "comment": "Nein.", "label": "AGAINST"},
    ],
}

TOPICS = "Web, Panorama, International, Wirtschaft, Sport, Inland, Etat, Wissenschaft, Kultur"
FINE = "Beleidigung, Beschimpfung, Profanität, Sonstiges"
# (context, continuation) of all answers of the first document, written out from the paper's harness.
GOLDEN: dict[str, list[tuple[str, str]]] = {
    "clp_germeval2017": [
        ("Die Bahn ist gut\n\nBewertung:", " gut"),
        ("Die Bahn ist gut\n\nBewertung:", " schlecht"),
        ("Die Bahn ist gut\n\nBewertung:", " neutral"),
    ],
    "clp_germeval2018_coarse": [
        ("Tweet (Beleidigung, Sonstiges): Du Hund!\n\nSprache (Beleidigung, Sonstiges): ", answer)
        for answer in (" Sonstiges", " Beleidigung")
    ],
    "clp_germeval2018_fine": [
        (f"Tweet ({FINE}): Du Hund!\n\nSprache ({FINE}): ", answer)
        for answer in (" Sonstiges", " Beleidigung", " Beschimpfung", " Profanität")
    ],
    "clp_gnad10": [
        (f"Artikel ({TOPICS}): Der Ball.\n\nThema ({TOPICS}): ", f" {topic}") for topic in TOPICS.split(", ")
    ],
    "clp_xnli_de": [
        ("", "Er schläft., richtig? Ja, Er ist müde."),
        ("", "Er schläft., richtig? Auch, Er ist müde."),
        ("", "Er schläft., richtig? Nein, Er ist müde."),
    ],
    "clp_pawsx_de": [
        ("", "Der Baum., richtig? Nein, Ein Baum."),
        ("", "Der Baum., richtig? Ja, Ein Baum."),
    ],
    "clp_xstance_de": [
        (
            "Thema: Mehr Bäume?\n\nMeine Meinung (dafür oder dagegen): Ja, gern."
            "\n\nMeine Meinung ist (dafür oder dagegen): ",
            answer,
        )
        for answer in (" dagegen", " dafür")
    ],
}


def write(folder: Path, names: list[str] | None = None) -> Path:
    """Write the files (all by default) into a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FILES:
        rows = [json.dumps(row, ensure_ascii=False) for row in FILES[name]]
        (folder / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
