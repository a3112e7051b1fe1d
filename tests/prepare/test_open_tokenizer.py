"""A tokenizer that is there, opened for packing: which token separates documents, and what is no tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clp_transfer.errors import UserError
from clp_transfer.prepare.bpe import END_OF_TEXT, save_bpe, train_bpe
from clp_transfer.prepare.packs import open_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "target"
    save_bpe(train_bpe(["der die das Baum im Wald"] * 9, 260, name="target"), path)
    return path


@pytest.mark.parametrize("special", [None, "<end>", {"__type": "AddedToken", "content": "<end>", "special": True}])
def test_the_separator_without_an_end_of_text_token(folder: Path, tmp_path: Path, special: object):
    content = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (tmp_path / "tokenizer.json").write_text(content.replace(END_OF_TEXT, "<end>"), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": special}))
    if special is None:
        with pytest.raises(UserError, match="neither"):
            open_tokenizer(tmp_path)
        (tmp_path / "tokenizer_config.json").unlink()
        with pytest.raises(UserError, match="neither"):
            open_tokenizer(tmp_path)
    else:
        assert open_tokenizer(tmp_path).eos_id == 0


@pytest.mark.parametrize("content", [None, "{", '{"model": 3}'])
def test_a_folder_without_a_readable_tokenizer(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(
        UserError, match="has no tokenizer.json" if content is None else r"tokenizer\.json cannot be read"
    ):
        open_tokenizer(tmp_path)
