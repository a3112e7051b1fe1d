"""config.json, generation_config.json and the tokenizer beside them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from clp_transfer.clp.checkpoint.configs import target_config, target_generation, write_configs
from clp_transfer.clp.checkpoint.tokenizer import PROBE, copy_tokenizer, load_tokenizer, pin_tokenizer, same_tokenizer
from clp_transfer.errors import UserError

IDS = SimpleNamespace(
    bos_token_id=None, eos_token_id=4, pad_token_id=5, unk_token_id=6, sep_token_id=None, cls_token_id=7
)


def test_only_the_vocabulary_changes():
    config = {
        "model_type": "llama",
        "vocab_size": 83,
        "vocab_size_padded": 83,
        "type_vocab_size": 2,
        "torch_dtype": "bfloat16",
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128009],
        "unk_token_id": 0,
        "image_token_id": 9,
        "tokenizer_class": "BloomTokenizerFast",
        "unknown_key": {"deep": [1, 2]},
    }
    before = json.loads(json.dumps(config))
    made = target_config(config, IDS, 71)
    assert config == before
    assert made == {
        "model_type": "llama",
        "vocab_size": 71,
        "vocab_size_padded": 71,
        "type_vocab_size": 2,
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": 4,
        "pad_token_id": 5,
        "unk_token_id": 6,
        "image_token_id": 9,
        "unknown_key": {"deep": [1, 2]},
    }


def test_nested_text_config():
    config = {"eos_token_id": 1, "text_config": {"vocab_size": 83, "eos_token_id": 1}, "vision_config": {"x": 83}}
    assert target_config(config, IDS, 71) == {
        "eos_token_id": 4,
        "text_config": {"vocab_size": 71, "bos_token_id": None, "eos_token_id": 4, "pad_token_id": 5},
        "vision_config": {"x": 83},
    }


def test_a_size_that_the_class_would_default_is_written():
    assert target_config({"model_type": "gpt2"}, IDS, 71)["vocab_size"] == 71


def test_generation_settings_lose_ids_of_the_old_vocabulary():
    old = {
        "temperature": 0.6,
        "max_new_tokens": 9,
        "num_assistant_tokens": 3,
        "eos_token_id": [1, 2],
        "decoder_start_token_id": 1,
        "forced_bos_token_id": 8,
        "suppress_tokens": [1],
        "begin_suppress_tokens": [2],
        "forced_decoder_ids": [[1, 2]],
        "bad_words_ids": [[3]],
        "sequence_bias": [[[1], 2.0]],
    }
    ids = {"bos_token_id": None, "eos_token_id": 4, "pad_token_id": 5}
    assert target_generation(old, IDS) == {"temperature": 0.6, "max_new_tokens": 9, "num_assistant_tokens": 3} | ids
    assert target_generation(None, IDS) == {"_from_model_config": True} | ids


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_what_is_written_for_another_vocabulary(world, tmp_path):
    (tmp_path / "source").mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "source" / name).write_bytes((world.source / name).read_bytes())
    (tmp_path / "source" / "LICENSE.txt").write_text("do what you like")
    (tmp_path / "source" / "modeling_x.py").write_text("")
    out = tmp_path / "out"
    out.mkdir()
    target = AutoTokenizer.from_pretrained(world.target_tokenizer)
    # The helper's folder, which has a model in it too.
    write_configs(tmp_path / "source", world.helper, target, 340, out)
    assert names(out) == {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "LICENSE.txt",
    }
    config = AutoConfig.from_pretrained(out)
    assert (config.vocab_size, config.hidden_size) == (340, 32)
    assert GenerationConfig.from_pretrained(out).eos_token_id == target.eos_token_id
    assert (out / "tokenizer.json").read_bytes() == (world.helper / "tokenizer.json").read_bytes()
    assert same_tokenizer(load_tokenizer(out), target)


def test_identical_vocabularies_leave_every_file_as_it_is(world, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(world.source)
    write_configs(world.source, world.source_tokenizer, tokenizer, 330, tmp_path, identical=True)
    assert names(tmp_path) == names(world.source) - {"model.safetensors"}
    assert all((tmp_path / n).read_bytes() == (world.source / n).read_bytes() for n in names(tmp_path))


def test_custom_code_travels_with_the_config_that_names_it(world, tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (source / "config.json").write_text(json.dumps({"vocab_size": 330, "auto_map": {"AutoConfig": "c.C"}}))
    (source / "c.py").write_text("raise SystemExit\n")
    write_configs(source, world.target_tokenizer, load_tokenizer(world.target_tokenizer), 340, out)
    assert (out / "c.py").is_file() and "auto_map" in json.loads((out / "config.json").read_text())


FAMILY_TYPES = ["gpt2", "bloom", "gpt_neox", "opt", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"]


@pytest.mark.parametrize("model_type", [*FAMILY_TYPES, "phi3", "phi"])
@pytest.mark.parametrize("named", [True, False])
def test_the_tokenizer_loads_as_itself_beside_any_familys_config(world, tmp_path, model_type, named):
    target = PreTrainedTokenizerFast.from_pretrained(world.target_tokenizer)
    copy_tokenizer(world.target_tokenizer, tmp_path)
    AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    if not named:
        settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
        settings.pop("tokenizer_class")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    before = (tmp_path / "tokenizer_config.json").read_bytes()
    alone = AutoTokenizer.from_pretrained(tmp_path)(PROBE)["input_ids"]
    pin_tokenizer(target, tmp_path)
    for trust in (None, False, True):
        found = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=trust)
        assert found(PROBE)["input_ids"] == target(PROBE)["input_ids"]
        assert found.get_vocab() == target.get_vocab()
    if alone == target(PROBE)["input_ids"]:
        assert (tmp_path / "tokenizer_config.json").read_bytes() == before
    if model_type == "qwen2":  # transformers takes Qwen2's class here, whatever tokenizer_config.json says
        assert alone != target(PROBE)["input_ids"]
        assert (tmp_path / "tokenization_generic.py").is_file()
    assert (tmp_path / "tokenizer.json").read_bytes() == (world.target_tokenizer / "tokenizer.json").read_bytes()


def test_a_tokenizer_whose_file_loads_as_another_one_is_written_from_memory(world, tmp_path):
    # As a specialised class that makes more of its files than they say.
    target = PreTrainedTokenizerFast.from_pretrained(world.target_tokenizer)
    target.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), target.backend_tokenizer.pre_tokenizer]
    )
    target.backend_tokenizer.normalizer = normalizers.Lowercase()
    copy_tokenizer(world.target_tokenizer, tmp_path)
    AutoConfig.for_model("llama").save_pretrained(tmp_path)
    pin_tokenizer(target, tmp_path)
    assert same_tokenizer(AutoTokenizer.from_pretrained(tmp_path), target)


def test_a_tokenizer_that_cannot_be_pinned(world, tmp_path):
    copy_tokenizer(world.source_tokenizer, tmp_path)

    class Slow:
        def get_vocab(self):
            return {"other": 0}

    with pytest.raises(UserError, match="does not load the target's tokenizer"):
        pin_tokenizer(Slow(), tmp_path)
    with pytest.raises(UserError, match="no usable tokenizer"):
        load_tokenizer(tmp_path / "nowhere")
