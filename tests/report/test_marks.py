"""Blocks between marks are made anew; what stands around them stays; a mark without its other half is told."""

from __future__ import annotations

import pytest

from clp_transfer.errors import UserError
from clp_transfer.report.marks import renewed

TEXT = """# Title
<!-- a: one -->
old
| table |
<!-- /a -->
between
<!-- b: one -->
another kind's
<!-- /b -->
<!-- a: two-2 -->
<!-- /a -->
<!-- a -->
x
<!-- /a -->
end"""


def test_each_block_of_the_kind_is_made_by_its_name() -> None:
    assert renewed(TEXT, "a", lambda name: f"[{name}]") == (
        "# Title\n<!-- a: one -->\n[one]\n<!-- /a -->\nbetween\n<!-- b: one -->\nanother kind's\n<!-- /b -->\n"
        "<!-- a: two-2 -->\n[two-2]\n<!-- /a -->\n<!-- a -->\n[]\n<!-- /a -->\nend"
    )


def test_once_more_changes_nothing_and_no_marks_is_no_change() -> None:
    once = renewed(TEXT, "a", lambda name: rf"\1 {name}")
    assert renewed(once, "a", lambda name: rf"\1 {name}") == once
    assert renewed(TEXT, "c", lambda name: "never") == TEXT


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\n<!-- a: one -->\nold\nrest", 2, "nothing closes <!-- a: one -->"),
        ("<!-- a: one -->\nold\nkeep me\n<!-- a: two -->\nold\n<!-- /a -->", 1, "nothing closes <!-- a: one -->"),
        ("<!-- a: one -->\n<!-- /a -->\n\n<!-- /a -->\n<!-- a: two -->\n<!-- /a -->", 4, "nothing opens <!-- /a -->"),
        ("<!-- a: one -->\n<!-- /a -->\n<!-- a:two -->\n<!-- /a -->", 4, "nothing opens <!-- /a -->"),
    ],
)
def test_a_mark_without_its_other_half_is_told(text: str, line: int, said: str) -> None:
    with pytest.raises(UserError, match=f"^line {line}: {said}"):
        renewed(text, "a", lambda name: "new")
