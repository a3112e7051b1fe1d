"""Hydra's side of the schema: register it, and turn a composed config into plain dataclasses."""

from __future__ import annotations

from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from clp_transfer.cli.launchers import register_launchers
from clp_transfer.config.checks import check
from clp_transfer.config.schema import Config


def register() -> None:
    """Make the schema known as `schema`, the first entry of every primary config's defaults."""
    ConfigStore.instance().store(name="schema", node=Config)
    register_launchers()


def to_config(composed: Any) -> Config:
    """Plain dataclasses, every interpolation resolved and every value checked."""
    config = cast(Config, OmegaConf.to_object(composed))
    check(config)
    return config
