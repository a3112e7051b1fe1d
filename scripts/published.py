"""Measure the paper's published models and those it compares with on its tasks; what `make published` calls.

python scripts/published.py                                   all systems, all of the paper's tasks, from the hub
python scripts/published.py models=[ai-forever/mGPT] tasks=[clp_gnad10] limit=100
python scripts/published.py models_dir=MODELS data_dir=DATA   MODELS/<owner>/<name> first; JSON lines instead of the hub
accelerate launch scripts/published.py                        the documents shared among the GPUs

Keys: see PublishedConfig in src/clp_transfer/evaluate/published.py.
"""

import sys
from dataclasses import fields

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from clp_transfer.cli.screen import one_screen, start_logging
from clp_transfer.errors import UserError
from clp_transfer.evaluate.published import PublishedConfig, published

KEYS = {field.name: str(field.type) for field in fields(PublishedConfig)}
REMEDY = "give key=value, of these keys:\n" + "\n".join(f"    {name}: {kind}" for name, kind in KEYS.items())


def parse(arguments: list[str]) -> PublishedConfig:
    """The config that the arguments say; raises UserError for the first that is no key=value, or of a wrong type."""
    config = OmegaConf.structured(PublishedConfig)
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"{argument}: there is no key {key}" if equals else f"{argument} is no key=value", REMEDY)
        try:
            config = OmegaConf.merge(config, OmegaConf.from_dotlist([argument]))
        except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
            raise UserError(f"{key}={value} is no value of type {KEYS[key]}", REMEDY) from error
    return OmegaConf.to_object(config)  # type: ignore[return-value]


if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.exit(__doc__)
    with one_screen():
        start_logging()
        config = parse(sys.argv[1:])
        published(config)
        print(f"written: {config.out}/published.md, {config.out}/published.json")
