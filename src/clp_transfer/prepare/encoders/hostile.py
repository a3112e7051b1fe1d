"""Texts on which encoders disagree if they ever do: the same list every time."""

from __future__ import annotations

import random
from collections.abc import Iterable

# Where random characters come from: one range a script or kind; most of Unicode is unassigned or Chinese.
RANGES = (
    (0x00, 0x7F), (0x80, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5FF),
    (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF), (0x2000, 0x206F),
    (0x20A0, 0x20CF), (0x2150, 0x218F), (0x2460, 0x24FF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0xE000, 0xF8FF), (0xFB00, 0xFDFF), (0xFE00, 0xFFFF), (0x10000, 0x1FFFF), (0xE0000, 0xE01EF), (0, 0x10FFFF),
)  # fmt: skip
RANDOM_TEXTS = 400
RUN = 3000

WRITTEN = (
    "",
    " ",
    "\x00",
    "NUL\x00in\x00\x00a text",
    "line\u2028separator\u2029paragraph\x85next",
    "zero\u200bwidth\u200c\u200d\u2060 joiner",
    "\ufeffbyte order mark\ufeff",
    "no\u00a0break\u202fspaces\u3000and\u2009thin",
    "left\u200eright\u202emarks\u2066\u2069",
    "soft\u00adhyphen",
    "e\u0301\u0327\u0308 a\u030a n\u0303 \u1100\u1161\u11a8",  # combining marks, Hangul jamo
    "\u0301 begins with a combining mark",
    "a" + "\u0300\u0316" * 50,
    "ﬀ ﬁ ĳ ǆ ½ ² ① Ⅷ ﷺ İi ıI ẞß ſs",  # change when they are normalised or change case
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ 1️⃣ 😀😀😀",
    "CR LF\r\n\r\n\r\n LF CR\n\r tab\t\t\n \n  \n",
    "don't I'm we'll THEY'RE it’s 'tis 's 'S'T 're",
    "1234567890 12.345,67 3,14 1/2 ٠١٢٣ 五〇 ²³ 1e-10 0x1F",
    "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 40,
    "https://example.org/a?b=c&d=%20#e mail@example.org C:\\x\\y ~/.z $HOME",
    "snake_case camelCase kebab-case a|b (c)[d]{e}<f> ++--== !!! ??? ... … ,,, ;;; :::",
    "。，、।۔،。。 ，, 你好，世界。 ¿qué? «oui» „ja“ ‚so‘",
    "<s>a</s> <unk> <pad> <mask> [CLS] [SEP] <|im_start|>user<|im_end|> <|endoftext|>",
)


def hostile_texts(added_tokens: Iterable[str] = ()) -> list[str]:
    """Written and random texts, about 200 kB; `added_tokens`: the tokenizer's own, which are spelt out in texts too."""
    draw = random.Random(4)
    letters = (
        "a",
        "A",
        "ß",
        "é",
        "漢",
        "😀",
        " ",
        "\n",
        "\t",
        "\r\n",
        "\u00a0",
        "\u200b",
        "0",
        "-",
        ".",
        "'",
        "\x00",
        " x",
    )
    runs = [letter * length for letter in letters for length in (2, 17, RUN // len(letter.encode()))]
    word = "".join(draw.choices("abcdefghijklmnopqrstuvwxyzäöü", k=4 * RUN))
    inside = ["<|endoftext|>", *added_tokens]
    spelt = [text for token in inside for text in (token, f"vor{token}nach", f" {token} {token}\n", token[:-1])]
    return [*WRITTEN, *runs, word, *spelt, *(_random_text(draw) for _ in range(RANDOM_TEXTS))]


def _random_text(draw: random.Random) -> str:
    """Characters from one to three ranges, words of them, or a mix of everything; never a surrogate."""
    chosen = draw.choices(RANGES, k=draw.randint(1, 3))
    points = (draw.randint(*draw.choice(chosen)) for _ in range(draw.randint(1, 200)))
    share = draw.choice((0.0, 0.2))  # of spaces
    return "".join(" " if draw.random() < share else chr(p) for p in points if not 0xD800 <= p < 0xE000)
