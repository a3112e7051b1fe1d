"""Read a model folder's embedding tables and tokenizer, without ever building the model's body."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from clp_transfer.errors import UserError


@dataclass(frozen=True)
class ModelFolder:
    """A `save_pretrained` folder (safetensors, one file or sharded), opened tensor by tensor."""

    path: Path

    @cached_property
    def config(self) -> Any:
        """The model's transformers config; raises UserError where the folder is not a model's."""
        try:
            return AutoConfig.from_pretrained(self.path)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.path} is not a model folder: {str(error).splitlines()[0]}",
                "give a folder that save_pretrained wrote (config.json, *.safetensors and the tokenizer)",
            ) from error

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        try:
            return AutoTokenizer.from_pretrained(self.path)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self.path} has no usable tokenizer: {str(error).splitlines()[0]}",
                "save the tokenizer beside the model",
            ) from error

    @cached_property
    def files(self) -> dict[str, Path]:
        """Which file holds each tensor."""
        index = self.path / "model.safetensors.index.json"
        if index.is_file():
            return {k: self.path / v for k, v in json.loads(index.read_text())["weight_map"].items()}
        single = self.path / "model.safetensors"
        if not single.is_file():
            raise UserError(
                f"{self.path} has no model.safetensors",
                "save the model as safetensors (save_pretrained does)",
            )
        with safe_open(single, framework="pt") as file:
            return dict.fromkeys(file.keys(), single)

    @cached_property
    def _modules(self) -> tuple[str, str | None, bool]:
        """Names of the input table and of the head (None: no head), and whether they are tied; from an empty model."""
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(self.config)
        inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
        names = {id(module): f"{name}.weight" for name, module in model.named_modules()}
        if inputs is None or not hasattr(inputs, "weight"):
            raise UserError(
                f"{self.path}: no input embedding found among {sorted(self.files)[:8]} …", "this model is not supported"
            )
        tied = head is None or head.weight is inputs.weight
        tied = tied or bool(getattr(self.config.get_text_config(), "tie_word_embeddings", False))
        return names[id(inputs)], names[id(head)] if head is not None else None, tied

    @property
    def names(self) -> tuple[str, str | None]:
        """Stored names of the input table and of the head's own table (None: tied to the input)."""
        inputs, head, tied = self._modules
        found = self._stored(inputs)
        if found is None:
            raise UserError(f"{self.path} holds no tensor {inputs}", f"it holds {sorted(self.files)[:8]} …")
        return found, None if tied or head is None else self._stored(head)

    @property
    def tied_copy(self) -> str | None:
        """The stored name of a head that is only a copy of the input table; the loader ties it again."""
        _, head, tied = self._modules
        return self._stored(head) if tied and head is not None else None

    def _stored(self, name: str) -> str | None:
        """The name as the file spells it: some checkpoints leave out the base model's prefix."""
        return next((n for n in (name, name.partition(".")[2]) if n in self.files), None)

    def tensor(self, name: str) -> torch.Tensor:
        """One stored tensor, in its stored dtype."""
        with safe_open(self.files[name], framework="pt") as file:
            return file.get_tensor(name)

    def rows(self, name: str, role: str) -> torch.Tensor:
        """An embedding table as float32 [rows, width]; raises UserError for NaN rows or too few of them."""
        table = self.tensor(name).float()
        highest = max(self.tokenizer.get_vocab().values())
        if table.shape[0] <= highest:
            raise UserError(
                f"the {role} {self.path}: its tokenizer has ids up to {highest}, its embedding {table.shape[0]} rows",
                "give a model saved together with its own tokenizer",
            )
        broken = (~torch.isfinite(table)).any(dim=1).nonzero().flatten().tolist()
        if broken:
            raise UserError(
                f"the {role} {self.path} has {len(broken)} embedding rows with NaN or infinity (first: {broken[:5]})",
                "this checkpoint is damaged; use another",
            )
        return table
