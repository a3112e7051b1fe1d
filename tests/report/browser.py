"""Open a page in a headless browser of Chromium's kind, and ask it what a reader would see."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
PATH = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-extensions"]

# Runs inside the page: what reaches beyond the page, and what is cut off by its own box.
LOOK = """
const wide = [], cut = [], scrolled = [], narrow = [], edge = document.documentElement.clientWidth;
const name = e => e.tagName + '.' + (e.getAttribute('class') || '') + ': ' + e.textContent.trim().slice(0, 40);
for (const e of document.querySelectorAll('body *')) {
  const box = e.getBoundingClientRect(), inner = e.parentElement.closest('.scroll, pre, .unseen, .hash');
  if (!box.width || !box.height || getComputedStyle(e).opacity === '0') continue;
  if (!inner && (box.right > edge + 1 || box.left < -1)) wide.push(name(e));
  const figure = e.closest('figure');
  if (figure && e.tagName === 'text') {
    const card = figure.getBoundingClientRect();
    if (box.right > card.right + 1 || box.left < card.left - 1) cut.push(name(e));
  }
  if (e.matches('th, td') && box.width < 45 && box.height > 120) narrow.push(name(e));
  if (e.matches('.scroll') && e.scrollWidth > e.clientWidth + 1) scrolled.push(name(e));
  const hides = getComputedStyle(e).overflowX === 'hidden' && !e.matches('.hash, .unseen, pre');
  if (hides && e.scrollWidth > e.clientWidth + 1) cut.push(name(e));
}
const found = {width: innerWidth, page: document.documentElement.scrollWidth, wide, cut, scrolled, narrow};
found.shown = [...document.querySelectorAll('.pane')].filter(e => e.getBoundingClientRect().height > 0).length;
parent.postMessage(JSON.stringify(found), '*');
"""
FRAME = """<!doctype html><iframe src="{page}" style="width: {width}px; height: 3000px; border: 0"></iframe><pre></pre>
<script>addEventListener('message', event => {{ document.querySelector('pre').textContent = event.data }})</script>"""


def open_page(address: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Load an address, wait until nothing happens, and give what the browser printed."""
    assert PATH is not None
    command = [PATH, *FLAGS, "--virtual-time-budget=4000", *flags, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def console(path: Path) -> list[str]:
    """All that the page made the browser write to its console: errors, and everything that its policy refused."""
    told = open_page(path.as_uri(), "--enable-logging=stderr", "--v=0", "--dump-dom").stderr
    return [line for line in told.splitlines() if "CONSOLE" in line]


def look(path: Path, width: int, *, printed: bool = False) -> dict[str, Any]:
    """What LOOK finds on a page so many pixels wide, or as it is printed."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text)
    text = text.replace("@media print", "@media all") if printed else text
    copy, frame = path.with_name("copy.html"), path.with_name("frame.html")
    copy.write_text(text.replace("</body>", f"<script>{LOOK}</script></body>"), encoding="utf-8")
    frame.write_text(FRAME.format(page=copy.name, width=width), encoding="utf-8")
    dom = open_page(frame.as_uri(), "--window-size=1400,1000", "--dump-dom").stdout
    return json.loads(html.unescape(dom.partition("<pre>")[2].partition("</pre>")[0]))
