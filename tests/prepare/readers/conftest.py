"""A file of any content, read as the prepare stage reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clp_transfer.prepare.documents import Document
from clp_transfer.prepare.job import SourceConfig
from clp_transfer.prepare.readers import ReadLimits, find_reader
from clp_transfer.prepare.streams import open_stream

Read = Callable[..., tuple[list[Document], dict[str, int]]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Write the content to a file of that name, read it, and give the documents and what was left out."""

    def read(name: str, content: bytes, longest: int = 10_000, **config: Any) -> tuple[list[Document], dict[str, int]]:
        path = tmp_path / name
        path.write_bytes(content)
        source, left_out = SourceConfig(**config), Counter[str]()
        broken = "keep" if name.startswith("kept") else "stop"
        with open_stream(path, broken=broken) as stream:
            documents = list(find_reader(source, name)(stream, source, ReadLimits(longest), left_out))
            assert stream.position() == stream.size
        return documents, dict(left_out)

    return read
