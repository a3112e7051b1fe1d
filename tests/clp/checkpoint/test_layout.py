"""The tables of every family, by shapes alone and by building the model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from clp_transfer.clp.checkpoint import layout as layouts
from clp_transfer.clp.checkpoint import skeleton
from clp_transfer.clp.checkpoint.layout import find_layout
from clp_transfer.clp.checkpoint.weights import Weights
from clp_transfer.errors import UserError


def edit(folder: Path, out: Path, change, config: dict | None = None) -> Path:
    """A copy of a single-file model with other tensors (`change` edits the dictionary) and settings."""
    out.mkdir()
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "config.json").read_text()) | (config or {})
    (out / "config.json").write_text(json.dumps(settings))
    return out


def nothing(_tensors: dict) -> None:
    pass


def rename(old: str, new: str):
    def change(tensors: dict) -> None:
        for name in [n for n in tensors if n.startswith(old)]:
            tensors[new + name.removeprefix(old)] = tensors.pop(name)

    return change


def test_every_family_both_ways(family):
    weights = Weights(family.folder)
    found = find_layout(family.folder, weights)
    assert (found.input, found.head, found.head_bias, found.tied_copy, found.rows) == (
        family.input,
        family.head,
        family.bias,
        None,
        83,
    )
    raw = layouts.read_config(family.folder)
    config = skeleton.load_config(family.folder, False)
    assert layouts._by_shape(weights, raw, config) == found  # nothing had to be built
    assert layouts._by_skeleton(weights, raw, skeleton.build(config, False)) == found


def test_ambiguous_shapes_are_settled_by_building_the_model(make_family):
    # The vocabulary is as large as the MLP, so that shapes alone say nothing.
    made = make_family("llama-untied", vocab_size=24)
    weights = Weights(made.folder)
    config = skeleton.load_config(made.folder, False)
    assert layouts._by_shape(weights, layouts.read_config(made.folder), config) is None
    found = find_layout(made.folder, weights)
    assert (found.input, found.head) == (made.input, made.head)


def test_old_names_without_the_base_models_prefix(make_family, tmp_path):
    made = make_family("gpt2")
    old = edit(made.folder, tmp_path / "old", rename("transformer.", ""))
    weights = Weights(old)
    assert find_layout(old, weights).input == "wte.weight"
    config = skeleton.load_config(old, False)
    assert layouts._by_skeleton(weights, {}, skeleton.build(config, False)).input == "wte.weight"


def test_a_head_stored_beside_a_tied_table_is_a_copy_only_if_it_is_equal(make_family, tmp_path):
    made = make_family("llama-tied")
    copy = edit(made.folder, tmp_path / "copy", lambda t: t.update({"lm_head.weight": t[made.input].clone()}))
    found = find_layout(copy, Weights(copy))
    assert (found.head, found.tied_copy) == (None, "lm_head.weight")
    # transformers unties a model whose two tables differ, whatever its config says.
    own = edit(made.folder, tmp_path / "own", lambda t: t.update({"lm_head.weight": t[made.input] + 1}))
    found = find_layout(own, Weights(own))
    assert (found.head, found.tied_copy) == ("lm_head.weight", None)


def test_a_tied_table_stored_as_the_head_only(make_family, tmp_path):
    made = make_family("llama-tied")
    folder = edit(made.folder, tmp_path / "head", rename(made.input, "lm_head.weight"))
    found = find_layout(folder, Weights(folder))
    assert (found.input, found.head, found.tied_copy) == ("lm_head.weight", None, None)


def test_unknown_family_is_searched_by_name(make_family, tmp_path):
    made = make_family("llama-untied")
    unknown = {"model_type": "nobody-knows", "auto_map": {"AutoConfig": "evil.Config"}}
    folder = edit(made.folder, tmp_path / "new", rename("model.embed_tokens", "net.tok_embeddings"), unknown)
    (folder / "evil.py").write_text("raise SystemExit('custom code was run')\n")
    found = find_layout(folder, Weights(folder))
    assert (found.input, found.head, found.rows) == ("net.tok_embeddings.weight", "lm_head.weight", 83)


def test_custom_code_is_run_only_when_asked_for(make_family, tmp_path):
    made = make_family("llama-untied")
    settings = {"model_type": "custom", "auto_map": {"AutoConfig": "configuration_custom.CustomConfig"}}
    folder = edit(made.folder, tmp_path / "custom", nothing, settings)
    (folder / "configuration_custom.py").write_text(
        "from pathlib import Path\nfrom transformers import LlamaConfig\n\n"
        f"Path({str(tmp_path)!r}, 'ran').touch()\n\nclass CustomConfig(LlamaConfig):\n    model_type = 'custom'\n"
    )
    assert find_layout(folder, Weights(folder)).input == made.input
    assert not (tmp_path / "ran").exists()
    assert find_layout(folder, Weights(folder), trust_remote_code=True).input == made.input
    assert (tmp_path / "ran").exists()


def test_no_embedding_lists_the_tensors_that_are_there(make_family, tmp_path):
    made = make_family("llama-tied")
    folder = edit(made.folder, tmp_path / "none", lambda t: t.pop(made.input), {"model_type": "nobody-knows"})
    with pytest.raises(UserError, match=r"no input embedding .*nobody-knows.*down_proj.weight \[16, 24\]"):
        find_layout(folder, Weights(folder))
    known = edit(made.folder, tmp_path / "known", lambda t: t.pop(made.input))
    with pytest.raises(UserError, match=r"no input embedding .*model.embed_tokens.weight"):
        find_layout(known, Weights(known))


def test_rows_that_the_config_does_not_have(make_family, tmp_path):
    made = make_family("llama-tied")
    folder = edit(made.folder, tmp_path / "rows", nothing, {"vocab_size": 90})
    with pytest.raises(UserError, match=r"has 83 rows, but config.json makes it 90"):
        find_layout(folder, Weights(folder))


def test_a_third_table_by_token_is_refused(monkeypatch, make_family):
    made = make_family("llama-untied", vocab_size=24)  # settled by building, see above
    build = skeleton._empty

    def with_third(config, trust):
        model = build(config, trust)
        model.model.register_parameter("per_token", torch.nn.Parameter(torch.empty(config.vocab_size, 3)))
        return model

    monkeypatch.setattr(skeleton, "_empty", with_third)
    with pytest.raises(UserError, match=r"more tables by token: model.per_token"):
        find_layout(made.folder, Weights(made.folder))


def test_gemma3n_has_a_table_too_many(tmp_path):
    from transformers import Gemma3nTextConfig

    config = Gemma3nTextConfig(
        vocab_size=83,
        vocab_size_per_layer_input=70,
        hidden_size=16,
        hidden_size_per_layer_input=8,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        laurel_rank=4,
        num_kv_shared_layers=0,
        activation_sparsity_pattern=[0.0, 0.0],
    )
    built = skeleton.build(config, False)
    assert built is not None
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in built.by_token} == {
        "embed_tokens",
        "embed_tokens_per_layer",
    }


def test_no_decoder(tmp_path, make_family):
    made = make_family("llama-tied")
    folder = edit(made.folder, tmp_path / "t5", nothing, {"model_type": "t5", "is_encoder_decoder": True})
    with pytest.raises(UserError, match="encoder-decoder"):
        find_layout(folder, Weights(folder))


def test_no_config(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json; it holds nothing"):
        layouts.read_config(tmp_path)
