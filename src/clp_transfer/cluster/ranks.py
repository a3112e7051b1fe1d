"""`python -m clp_transfer.cluster.ranks …`: torchrun, but a run that saved and stopped is told by its exit status.

torchrun ends with 1 whatever its ranks end with; a job script has to tell 75 ("not finished, run it again", see
`clp_transfer.train.signals`) from a failure. And it would die of the SIGUSR1 that SLURM sends to every process of a
job: that is ignored here, and by the ranks until they listen for it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence

NOT_FINISHED = os.EX_TEMPFAIL


def main(arguments: Sequence[str]) -> int:
    """Start this node's ranks with torchrun's arguments and wait for them; returns the exit status."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.run import parse_args, run

    try:
        run(parse_args(list(arguments)))
    except ChildFailedError as error:
        found = {rank: failure.exitcode for rank, failure in error.failures.items()}
        listed = ", ".join(f"rank {rank}: {code}" for rank, code in sorted(found.items()))
        print(f"ranks ended with another status than 0 ({listed})", file=sys.stderr)
        return status(found.values())
    except RendezvousError as error:  # the first node's ranks have ended; its status is the one that counts
        print(f"the other nodes are gone: {error}", file=sys.stderr)
        return 1
    return 0


def status(codes: Iterable[int]) -> int:
    """One exit status for the ranks': 75 where any saved and stopped, else the first one that is not 0.

    Ranks save together, so that one that ended with 75 says that the checkpoint is whole; torchrun may then have ended
    the others. A negative code is a signal's number.
    """
    failed = [code for code in codes if code]
    if NOT_FINISHED in failed:
        return NOT_FINISHED
    return next((code if code > 0 else 128 - code for code in failed), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
