"""Tiny wheels with a dictionary and an encyclopedia in them."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from pathlib import Path

from clp_transfer.files import sha256_file
from clp_transfer.prepare.job import WheelConfig

GERMAN = "der Fluss über die Brücke große Straße Häuser nördlich gelegene Stadt mit vielen Bäumen und Wegen"
ENGLISH = "the river under a bridge of large streets houses in northern town with many trees and several ways"
LABELS = ["Medizin", "Musik", "Sport"]


def sentences(words: str, count: int, seed: int) -> list[str]:
    """Distinct pseudo-sentences of the words."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(words.split(), k=draw.randint(5, 16)))} {number}" for number in range(count)]


def dictionary(plain: int = 300, labelled: int = 40) -> bytes:
    """Dictionary lines, gzipped: `plain` entries without a label, `labelled` with one, four in five of LABELS."""
    lines = [f"Wort{i}\t{text} | auch: {text[:20]}" for i, text in enumerate(sentences(GERMAN, plain, 1))]
    names = [*LABELS, "Botanik, speziell Blütenbau", "Sport"]
    marked = sentences(GERMAN, labelled, 2)
    lines += [f"Fach{i}\t{names[i % len(names)]}: {text}" for i, text in enumerate(marked)]
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


def leads(count: int = 200) -> bytes:
    """Wikipedia leads as the wheel holds them."""
    texts = sentences(ENGLISH, count, 3)
    return json.dumps({f"T{i}": {"title": f"T{i}", "extract": t} for i, t in enumerate(texts)}).encode()


def write_wheel(
    cache: Path, package: str, member: str, content: bytes, more: dict[str, bytes] | None = None
) -> WheelConfig:
    """Put a wheel of that member, and more, into the cache folder and give its config, hash included."""
    path = cache / f"{package.replace('-', '_')}-1.0-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {member: content, **(more or {})}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return WheelConfig(package, "1.0", sha256_file(path), member, "CC0-1.0")
