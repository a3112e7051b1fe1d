"""What the model writes after a few fixed prompts: for a person to read, not a measure."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig

from clp_transfer.errors import UserError

TEMPERATURE = 0.8
TOP_P = 0.95


def continuations(
    model: Any, tokenizer: Any, prompts: list[str], *, tokens: int, eos_id: int, seed: int
) -> list[dict[str, str]]:
    """`[{"prompt", "text"}]`: each prompt's continuation, of at most `tokens` tokens.

    Sampled at temperature 0.8 from the likeliest 95 % (top-p): a small model's greedy text runs in circles. Each
    prompt has its own seed, so its text does not depend on the other prompts. The context begins with
    end-of-text, as documents do in training; the text ends at the next one. The global generator is left alone.

    Raises UserError for a prompt that fills the model's context.
    """
    room = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    was_training = model.training
    model.eval()
    written = []
    try:
        with torch.random.fork_rng():
            for index, prompt in enumerate(prompts):
                ids = [eos_id, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
                length = tokens if room is None else min(tokens, room - len(ids))
                if length < 1:
                    raise UserError(
                        f"the prompt {prompt[:40]!r} has {len(ids)} tokens, the model's context {room}",
                        "shorten the prompt",
                    )
                torch.manual_seed(seed + index)
                written.append({"prompt": prompt, "text": _continue(model, tokenizer, ids, length, eos_id)})
    finally:
        model.train(was_training)
    return written


def _continue(model: Any, tokenizer: Any, ids: list[int], length: int, eos_id: int) -> str:
    """The text sampled after the given ids; one sequence needs no padding, so any pad id will do."""
    inputs = torch.tensor([ids], device=model.device)
    config = GenerationConfig(
        do_sample=True,
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=0,
        max_new_tokens=length,
        eos_token_id=eos_id,
        pad_token_id=eos_id,
    )
    with torch.inference_mode():
        output = model.generate(input_ids=inputs, attention_mask=torch.ones_like(inputs), generation_config=config)
    return tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True)
