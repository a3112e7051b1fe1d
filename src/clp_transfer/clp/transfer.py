"""Make the target's embedding rows from a source and a helper."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clp_transfer.clp import methods
from clp_transfer.clp.job import MethodConfig
from clp_transfer.clp.keys import byte_alphabet, token_bytes
from clp_transfer.clp.overlap import Overlap, match
from clp_transfer.clp.tables import ModelFolder
from clp_transfer.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferRows:
    """`input`: float32 [V_t, d_s]; `head`: the same for an untied head, else None; `report`: what was done."""

    input: Tensor
    head: Tensor | None
    report: dict[str, Any]


def compute_rows(source: Path, helper: Path, tokenizer: Path, method: MethodConfig, seed: int) -> TransferRows:
    """All rows of the target's tables: copied for overlapping tokens, made by the method for the others.

    `source` and `helper` are model folders; `tokenizer` is the target's and must be the helper's own. An untied
    head gets its own transfer, in the space of the helper's head where that is untied too. Raises UserError for
    models and tokenizers that do not fit each other.
    """
    src, target = ModelFolder(source), ModelFolder(tokenizer).tokenizer
    _ = src.config  # a folder that is no model is named as such before its tokenizer is missed
    hlp = _open_helper(helper, tokenizer, target) if method.name in methods.NEEDS_HELPER else None
    overlap = match(src.tokenizer, target)
    pieces = source_pieces(src.tokenizer, target, overlap.missing)
    solve = methods.get(method.name)
    tables: dict[str, Tensor] = {}
    report: dict[str, Any] = {"diagnostics": {}, "warnings": [], "norms": {}}
    for table, source_name, helper_name in _tables(src, hlp):
        source_rows = src.rows(source_name, "source")
        helper_rows = hlp.rows(helper_name, "helper") if hlp else torch.zeros(len(target), 0)
        problem = _problem(source_rows, helper_rows, src, overlap, pieces, method, seed)
        # With the source's own tokenizer nothing is missing, and the result is the source, bit for bit.
        solution = solve(problem) if overlap.missing else methods.Solution(source_rows[:0])
        tables[table] = _assemble(overlap, source_rows, solution.rows)
        report["diagnostics"] |= {k if table == "input" else f"{table}_{k}": v for k, v in solution.diagnostics.items()}
        report["warnings"] += solution.warnings
        report["norms"] |= _norms(table, problem, solution.rows)
    for warning in report["warnings"]:
        log.warning("%s: %s", method.name, warning)
    report["overlap"] = overlap.as_dict()
    return TransferRows(tables["input"], tables.get("head"), report)


def _open_helper(helper: Path, tokenizer: Path, target: Any) -> ModelFolder:
    """The helper's folder; raises UserError where its tokenizer is not the target's."""
    folder = ModelFolder(helper)
    _ = folder.config
    if folder.tokenizer.get_vocab() != target.get_vocab():
        raise UserError(
            f"the helper {helper} does not have the target's tokenizer {tokenizer}",
            "train the helper with the target's tokenizer, or take the helper's own as the target's",
        )
    return folder


def _tables(src: ModelFolder, hlp: ModelFolder | None) -> list[tuple[str, str, str]]:
    """The tables to transfer, each with the source's tensor and the helper's tensor that gives its space."""
    source_input, source_head = src.names
    helper_input, helper_head = hlp.names if hlp else ("", None)
    tables = [("input", source_input, helper_input)]
    if source_head is not None:
        tables.append(("head", source_head, helper_head or helper_input))
    return tables


def _problem(
    source_rows: Tensor,
    helper_rows: Tensor,
    src: ModelFolder,
    overlap: Overlap,
    pieces: list[list[int]],
    method: MethodConfig,
    seed: int,
) -> methods.Problem:
    """Line the tables up by token; rows of the source beyond its tokenizer's ids (padding) take no part."""
    shared_target = torch.tensor(list(overlap.shared), dtype=torch.long)
    shared_source = torch.tensor(list(overlap.shared.values()), dtype=torch.long)
    real = max(src.tokenizer.get_vocab().values()) + 1
    return methods.Problem(
        source=source_rows[shared_source],
        source_all=source_rows[:real],
        helper=helper_rows[shared_target],
        helper_missing=helper_rows[torch.tensor(overlap.missing, dtype=torch.long)],
        pieces=pieces,
        options=method,
        generator=torch.Generator().manual_seed(seed),
    )


def _assemble(overlap: Overlap, source_rows: Tensor, made: Tensor) -> Tensor:
    """The target's table, float32 [V_t, d_s]: copies where the token is shared, made rows elsewhere."""
    table = torch.zeros(max([*overlap.shared, *overlap.missing]) + 1, source_rows.shape[1])
    table[torch.tensor(list(overlap.shared))] = source_rows[torch.tensor(list(overlap.shared.values()))]
    table[torch.tensor(overlap.missing, dtype=torch.long)] = made
    return table


def _norms(table: str, problem: methods.Problem, made: Tensor) -> dict[str, float]:
    """Mean Euclidean norms of the source's rows, of the overlap's and of the made ones."""
    prefix = "" if table == "input" else f"{table}_"
    parts = {"source_mean": problem.source_all, "overlap_mean": problem.source, "new_mean": made}
    return {prefix + name: float(rows.norm(dim=1).mean()) for name, rows in parts.items() if len(rows)}


def source_pieces(source: Any, target: Any, ids: list[int]) -> list[list[int]]:
    """For each target id the source ids that spell the token's bytes.

    A token that is whole UTF-8 is read by the source's tokenizer; one that is not (a cut character) is spelled
    byte by byte, which a byte-level vocabulary always can. Special tokens without a partner become "".
    """
    spelled, letters = token_bytes(target, "the target"), {b: c for c, b in byte_alphabet().items()}
    vocabulary = source.get_vocab()
    pieces = []
    for index in ids:
        raw = spelled.get(index, b"")
        try:
            found = source(raw.decode(), add_special_tokens=False)["input_ids"]
        except UnicodeDecodeError:
            found = [vocabulary[letters[byte]] for byte in raw if letters[byte] in vocabulary]
        pieces.append(found or [source.eos_token_id])
    return pieces
