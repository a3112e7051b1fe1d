from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny.gguf_file import make_llama, write_gguf
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from clp_transfer.clp.checkpoint.tokenizer import copy_tokenizer
from clp_transfer.errors import UserError
from clp_transfer.prepare.bpe import train_bpe
from clp_transfer.prepare.gguf_model import convert
from clp_transfer.prepare.packs import open_tokenizer


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaForCausalLM, Path]:
    """A random Llama with tied embeddings and the folder that its GGUF was converted to."""
    root = tmp_path_factory.mktemp("gguf")
    tokenizer = train_bpe(["die Straße über Köln und der Fluss"] * 3, 270, name="t")
    model = make_llama(270)
    write_gguf(root / "tiny.gguf", model, tokenizer)
    convert(root / "tiny.gguf", root / "out")
    return model, root / "out"


def test_the_converted_model_computes_what_the_original_does(converted):
    original, folder = converted
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.randint(0, 270, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits)
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not hasattr(model.config, "quantization_config")
    assert (folder / "generation_config.json").is_file()


def test_its_tokenizer_and_the_separator(converted, tmp_path: Path):
    _, folder = converted
    (tmp_path / "copy").mkdir()
    copy_tokenizer(folder, tmp_path / "copy")
    for path in (folder, tmp_path / "copy"):
        tokenizer = AutoTokenizer.from_pretrained(path)
        text = "Die Straße  über Köln – 😀"
        assert tokenizer.decode(tokenizer(text).input_ids) == text
        assert tokenizer.eos_token_id == 1
        assert open_tokenizer(path).eos_id == 0
    assert "local_files_only" not in (folder / "tokenizer_config.json").read_text()


def test_what_is_no_gguf_is_refused(tmp_path: Path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nothing")
    with pytest.raises(UserError, match=r"broken\.gguf cannot be read as a GGUF model"):
        convert(tmp_path / "broken.gguf", tmp_path / "out")
