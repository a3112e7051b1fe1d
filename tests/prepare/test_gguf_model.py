from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from clp_transfer.errors import UserError
from clp_transfer.prepare.bpe import train_bpe
from clp_transfer.prepare.gguf_model import convert, copy_tokenizer
from clp_transfer.prepare.packs import open_tokenizer

LAYERS, HEADS, KV_HEADS, WIDTH, CONTEXT = 2, 4, 2, 32, 64
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """The row order of GGUF's queries and keys: rotary pairs beside each other, not half a head apart."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, model: LlamaForCausalLM, tokenizer) -> None:
    """Write a chat-like Llama as GGUF: float32, `<|endoftext|>` the unknown token, token 1 the turn's end."""
    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token for token, _ in vocab])
    writer.add_token_types([3 if index < 2 else 1 for _, index in vocab])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_unk_token_id(0)
    writer.add_eos_token_id(1)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    writer.add_tensor("token_embd.weight", state["model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", state["model.norm.weight"])
    for layer in range(LAYERS):
        for ours, theirs in NAMES.items():
            weight = state[f"model.layers.{layer}.{ours}.weight"]
            if theirs in ("attn_q", "attn_k"):
                weight = interleave(weight, HEADS if theirs == "attn_q" else KV_HEADS)
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlamaForCausalLM, Path]:
    """A random Llama with tied embeddings and the folder that its GGUF was converted to."""
    root = tmp_path_factory.mktemp("gguf")
    tokenizer = train_bpe(["die Straße über Köln und der Fluss"] * 3, 270, name="t")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=270,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=CONTEXT,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
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
