"""Measure the paper's published models and those it compares with on its tasks; what `make published` calls.

python scripts/published.py                                   all systems, all of the paper's tasks, from the hub
python scripts/published.py models=[ai-forever/mGPT] tasks=[clp_gnad10] limit=100
python scripts/published.py models_dir=MODELS data_dir=DATA   MODELS/<owner>/<name> first; JSON lines instead of the hub
accelerate launch scripts/published.py                        the documents shared among the GPUs

Keys: see PublishedConfig in src/clp_transfer/evaluate/published.py.
"""

import sys

from omegaconf import OmegaConf

from clp_transfer.cli.screen import one_screen, start_logging
from clp_transfer.evaluate.published import PublishedConfig, published

if __name__ == "__main__":
    if {"--help", "-h"} & set(sys.argv[1:]):
        sys.exit(__doc__)
    with one_screen():
        start_logging()
        config = OmegaConf.merge(OmegaConf.structured(PublishedConfig), OmegaConf.from_cli())
        published(OmegaConf.to_object(config))  # type: ignore[arg-type]
        print(f"written: {config.out}/published.md, {config.out}/published.json")
