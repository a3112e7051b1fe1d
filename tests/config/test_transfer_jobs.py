"""What `clp.py` is asked to do about helper and tokenizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from clp_transfer.clp.job import NEEDS_HELPER, MethodConfig, TransferJob
from clp_transfer.clp.run import transfer
from clp_transfer.config.jobs import transfer_job
from clp_transfer.config.schema import Config, PathsConfig
from clp_transfer.errors import UserError
from clp_transfer.prepare.job import DataConfig, TokenizerConfig

HELPERLESS = ("fvt", "mean", "gaussian", "random", "focus", "scratch", "own")


def job(root: Path, method: str, **changes: object) -> TransferJob:
    data = DataConfig(tokenizers={"target": TokenizerConfig(corpus="target")})
    values = {"method": MethodConfig(method), "paths": PathsConfig(str(root)), "data": data}
    return transfer_job(Config(**(values | changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", [*HELPERLESS, *sorted(NEEDS_HELPER), "auto"])
def test_the_experiments_own_helper_is_for_methods_that_use_one(tmp_path: Path, method: str) -> None:
    """Another need not have one; a helper that is given gives its tokenizer to every method."""
    own = job(tmp_path, method)
    helper = tmp_path / "default/runs/helper/model"
    assert own.helpers == ([] if method in HELPERLESS else [helper])
    assert own.tokenizer == tmp_path / "default/data/tokenizers/target"
    if method != "own":
        given = job(tmp_path, method, helper="some/helper")
        assert (given.helpers, given.tokenizer) == (["some/helper"], None)


def test_a_tokenizer_alone_is_enough(world, tmp_path: Path) -> None:
    """As docs/transfer.md says: `clp.py source=… tokenizer=… method=fvt out=…`."""
    one = job(
        tmp_path,
        "fvt",
        source=str(world.source),
        tokenizer=str(world.target_tokenizer),
        out=str(tmp_path / "out"),
    )
    assert transfer(one)["overlap"]["target"] == 340


def test_a_tokenizer_beside_a_helper_is_compared_with_its_own(world, tmp_path: Path) -> None:
    given = {"source": str(world.source), "helper": str(world.helper)}
    for method in ("fvt", "ridge"):
        one = job(tmp_path, method, **given, tokenizer=str(world.source_tokenizer), out=str(tmp_path / "out"))
        with pytest.raises(UserError, match="does not have the target's tokenizer"):
            transfer(one)
    same = job(tmp_path, "fvt", **given, tokenizer=str(world.target_tokenizer), out=str(tmp_path / "out"))
    assert transfer(replace(same, method=MethodConfig("ridge")))["overlap"]["target"] == 340


@pytest.mark.parametrize("data", [DataConfig(), DataConfig(tokenizers={"target": TokenizerConfig(corpus="target")})])
def test_the_default_tokenizer_says_nothing_beside_a_helper(tmp_path: Path, data: DataConfig) -> None:
    assert job(tmp_path, "ridge", helper="some/helper", data=data).tokenizer is None
