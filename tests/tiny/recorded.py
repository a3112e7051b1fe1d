"""train.py for the tests of the launchers: the same command, but every rank notes what it was told before it trains."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

MASKS = (0o022, 0o027)  # of rank 0 and the others: the permissions of a file then say who wrote it


def main() -> None:
    """Run the stage as train.py does; leaves `rank<r>.json` in the folder that RECORDS names."""
    # Not tests/tiny, where this file is: its tokenizers.py is not the package of that name.
    sys.path.pop(0)
    from clp_transfer.cli import main as stage
    from clp_transfer.config import jobs

    rank = int(os.environ.get("RANK", "0"))
    os.umask(MASKS[rank > 0])
    make = jobs.train_job

    def recorded(config: Any) -> Any:
        job = make(config)
        found = {"key": job.plan().key, "out": str(job.out), "ranks": os.environ.get("WORLD_SIZE", "1")}
        (Path(os.environ["RECORDS"]) / f"rank{rank}.json").write_text(json.dumps(found))
        return job

    jobs.train_job = recorded
    stage("train")


if __name__ == "__main__":
    main()
