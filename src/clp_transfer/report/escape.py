"""Text made safe for Markdown cells, LaTeX and file names."""

from __future__ import annotations

import re

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
}
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
MARKDOWN = {"\\": r"\\", "|": r"\|", "<": "&lt;", ">": "&gt;", "*": r"\*", "_": r"\_", "`": r"\`"}


def latex(text: str) -> str:
    """Plain text as LaTeX that pdflatex sets: its special characters escaped, ours (10¹⁵, −, →) in its own signs."""
    escaped = "".join(LATEX.get(character, character) for character in " ".join(text.split()))
    return re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"$^{{{m[0].translate(RAISED)}}}$", escaped)


def markdown(text: str) -> str:
    """Plain text as a cell of a Markdown table: on one line, with nothing that formats."""
    return "".join(MARKDOWN.get(character, character) for character in " ".join(text.split()))


def slug(text: str) -> str:
    """A name safe as a file name on any system."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.") or "table"
