"""The methods on bare tables against the same methods on model folders, and against NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

import clp_transfer
from clp_transfer import transfer_rows
from clp_transfer.clp.arrays import ROWS_ONLY
from clp_transfer.errors import UserError


def table(folder: Path, name: str = "model.embed_tokens.weight") -> torch.Tensor:
    return load_file(folder / "model.safetensors")[name]


@pytest.fixture(scope="module")
def shared(world) -> dict[int, int]:
    """Target id to source id; both vocabularies are byte-level, so that strings tell."""
    source, target = (AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (world.source, world.helper))
    found = {index: source[token] for token, index in target.items() if token in source}
    assert 0 < len(found) < len(target)
    return found


@pytest.mark.parametrize("norms", ["keep", "source"])
@pytest.mark.parametrize("method", ROWS_ONLY)
def test_rows_are_those_of_the_models(world, shared: dict[int, int], method: str, norms: str) -> None:
    whole = clp_transfer.transfer(world.source, world.helper, method, seed=3, norms=norms)
    rows = transfer_rows(table(world.source), table(world.helper), shared, method, seed=3, norms=norms)
    torch.testing.assert_close(rows, whole.input, rtol=1e-5, atol=1e-7)
    assert torch.equal(rows[list(shared)], table(world.source)[list(shared.values())])


def test_an_untied_head_in_the_same_way(world, shared: dict[int, int]) -> None:
    whole = clp_transfer.transfer(world.untied, world.helper, "ridge")
    rows = transfer_rows(table(world.untied, "lm_head.weight"), table(world.helper), shared, "ridge")
    torch.testing.assert_close(rows, whole.head, rtol=1e-5, atol=1e-7)


@pytest.fixture
def tables() -> tuple[np.ndarray, np.ndarray, dict[int, int]]:
    draw = np.random.default_rng(0)
    return draw.normal(size=(20, 6)), draw.normal(size=(15, 4)) + 1, {i: (7 * i) % 20 for i in range(0, 15, 2)}


def clp(source: np.ndarray, helper: np.ndarray, shared: dict[int, int]) -> np.ndarray:
    """The paper's formula, token by token."""
    unit = helper / np.linalg.norm(helper, axis=1, keepdims=True)
    rows = np.zeros((len(helper), source.shape[1]))
    for index in range(len(helper)):
        weights = {source_id: unit[index] @ unit[other] for other, source_id in shared.items()}
        if index in shared:
            weights = {shared[index]: 1.0}
        rows[index] = sum(w * source[i] for i, w in weights.items()) / sum(weights.values())
    return rows


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_kind_and_dtype_are_the_sources(tables, kind: str, dtype: str) -> None:
    source, helper, shared = tables
    given = source.astype(dtype)
    rows = transfer_rows(given if kind == "numpy" else torch.from_numpy(given), helper.astype("float32"), shared)
    assert isinstance(rows, np.ndarray if kind == "numpy" else torch.Tensor)
    rows = np.asarray(rows)
    assert rows.dtype == dtype
    tolerance = 2e-3 if dtype == "float16" else 1e-5
    expected = clp(given.astype("float64"), helper.astype("float32").astype("float64"), shared)
    np.testing.assert_allclose(rows, expected, rtol=tolerance, atol=tolerance)
    assert np.array_equal(rows[list(shared)], given[list(shared.values())])


def test_bfloat16(tables) -> None:
    source, helper, shared = tables
    given = torch.from_numpy(source).bfloat16()
    rows = transfer_rows(given, helper, shared)
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows[list(shared)], given[list(shared.values())])
    expected = clp(given.double().numpy(), helper, shared)
    np.testing.assert_allclose(rows.double().numpy(), expected, rtol=1e-2, atol=1e-2)


def test_what_is_given_is_only_read(tables, recwarn: pytest.WarningsRecorder) -> None:
    """Also a table that may not be written, such as a memory map, and one that is being trained."""
    source, helper, shared = tables
    before = source.copy()
    source.flags.writeable = helper.flags.writeable = False
    rows = transfer_rows(source, helper, shared)
    trained = torch.nn.Parameter(torch.from_numpy(before))
    assert not transfer_rows(trained, helper, shared).requires_grad
    rows[:] = 0
    assert np.array_equal(source, before) and not recwarn.list


def test_the_order_of_shared_does_not_matter(tables) -> None:
    source, helper, shared = tables
    turned = {np.int64(key): np.int64(shared[key]) for key in sorted(shared, reverse=True)}
    assert np.array_equal(
        transfer_rows(source, helper, turned, "ridge"), transfer_rows(source, helper, shared, "ridge")
    )


@pytest.mark.parametrize("method", ROWS_ONLY)
def test_nothing_to_make(tables, method: str) -> None:
    source, helper, _ = tables
    shared = {i: 19 - i for i in range(len(helper))}
    assert np.array_equal(transfer_rows(source, helper, shared, method), source[19 : 19 - len(helper) : -1])


def test_seeds(tables) -> None:
    one, again, other = (transfer_rows(*tables, "random", seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shared": {}}, "no token is shared"),
        ({"shared": {15: 0}}, "outside the tables"),
        ({"shared": {0: 20}}, "outside the tables"),
        ({"shared": {-1: 0}}, "outside the tables"),
        ({"shared": {0: -1}}, "outside the tables"),
        ({"source": np.zeros(20)}, r"shapes \(20,\) and \(15, 4\)"),
        ({"helper": np.zeros((15, 4, 1))}, "shapes"),
        ({"source": np.zeros((20, 6), dtype=int)}, "the source holds torch.int64, not floats"),
        ({"helper": [["a"]]}, "the helper is no table of numbers"),
        ({"method": "fvt"}, "method=fvt needs more than rows"),
        ({"method": "calibrate"}, "method=calibrate needs more than rows"),
        ({"method": "scratch"}, "method=scratch needs more than rows"),
        ({"method": "ridge", "features": ["helper", "pieces"]}, "features=.* needs more than rows"),
        ({"method": "ridge", "frequency_power": 0.5}, "frequency_power=0.5 needs a text"),
        ({"method": "ridge", "colour": 3}, "no method option is called colour"),
    ],
)
def test_what_is_refused(tables, changes: dict, message: str) -> None:
    arguments = dict(zip(("source", "helper", "shared"), tables, strict=True)) | changes
    with pytest.raises(UserError, match=message):
        transfer_rows(**arguments)


@pytest.mark.parametrize("broken", ["source", "helper"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_with_nan_or_infinity(tables, broken: str, value: float) -> None:
    source, helper, shared = tables
    (source if broken == "source" else helper)[[3, 9], 1] = value
    with pytest.raises(UserError, match=rf"2 rows of the {broken} have NaN or infinity \(first: \[3, 9\]\)"):
        transfer_rows(source, helper, shared)
