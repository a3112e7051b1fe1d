"""The algorithm of the paper's own script, written anew, as an oracle.

Tokens overlap where their strings are equal; a missing token's row is `np.average` of the overlap's rows with its
cosines over their sum as weights; the matrix is float64; it becomes the input embedding and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Matrix = NDArray[np.float64]


def original_matrix(
    source: torch.Tensor, helper: torch.Tensor, source_ids: dict[str, int], target_ids: dict[str, int]
) -> Matrix:
    """The target's input embedding, float64 [V_t, d_s]; the two vocabularies map strings to rows."""
    overlap = sorted(source_ids.keys() & target_ids.keys())
    missing = sorted(target_ids.keys() - source_ids.keys())
    known = source.double().numpy()[[source_ids[token] for token in overlap]]
    rows = helper.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows[[target_ids[t] for t in missing]] @ rows[[target_ids[t] for t in overlap]].T
    matrix = np.full((len(target_ids), source.shape[1]), np.nan)
    matrix[[target_ids[token] for token in overlap]] = known
    for token, similar in zip(missing, cosines, strict=True):
        matrix[target_ids[token]] = np.average(known, axis=0, weights=similar / similar.sum())
    return matrix


def original_model(model: Any, matrix: Matrix) -> Any:
    """The source's model, resized and with the matrix as its input embedding, as the script saves it."""
    model.resize_token_embeddings(len(matrix), mean_resizing=False)
    model.get_input_embeddings().weight = nn.Parameter(torch.from_numpy(matrix).float())
    model.tie_weights()
    return model
