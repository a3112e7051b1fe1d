"""SIGTERM, SIGUSR1 and SIGINT ask for a checkpoint after the present step, and then for the end of the run.

| signal | who sends it | exit status |
|---|---|---|
| SIGTERM | a scheduler that takes the machine back, `kill`, torchrun | 143, as the shell reports it |
| SIGINT | Ctrl-C; a second one stops at once, without a checkpoint | 130 |
| SIGUSR1 | SLURM before the time limit (`#SBATCH --signal=USR1@300`) | 75: not finished, run it again |

75 is `EX_TEMPFAIL` of sysexits.h. It is not 0: jobs that wait for this one (`--dependency=afterok`) must not start on
an unfinished model. A job script puts itself back with `[ $? -eq 75 ] && scontrol requeue "$SLURM_JOB_ID"`.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

import torch

from clp_transfer.train.together import ranks

log = logging.getLogger(__name__)

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: getattr(os, "EX_TEMPFAIL", 75)}
ECHO_SECONDS = 2.0  # a terminal's Ctrl-C reaches a rank twice under torchrun, which passes it on


class Stopped(SystemExit):
    """The run was asked to stop and has saved: ends the process with the signal's exit status, without a traceback."""

    def __init__(self, asked: int, message: str) -> None:
        self.message = message
        super().__init__(STATUS.get(signal.Signals(asked), 128 + asked))

    def __str__(self) -> str:
        return self.message


class Requests:
    """`with Requests() as requests:` notes the signals of this process; the old handlers are restored at the end.

    Outside the main thread, where Python cannot handle signals, it notes nothing.
    """

    def __init__(self) -> None:
        self.asked = 0  # the signal's number
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Requests:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in STATUS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and self.asked == signal.SIGINT
        if again and time.monotonic() - self._when > ECHO_SECONDS:
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self._when = number, time.monotonic()

    def any_rank(self, accelerator: Any, due: bool = False) -> tuple[int, bool]:
        """The signal that any rank was sent (0: none), and whether rank 0 finds a checkpoint `due`; all call it.

        One exchange of two numbers a step. The answer is the same on every rank, so that they save together.
        """
        if ranks() == 1:
            return self.asked, due
        mine = [self.asked, int(due and accelerator.is_main_process)]
        flags = torch.tensor(mine, device=accelerator.device)
        torch.distributed.all_reduce(flags, op=torch.distributed.ReduceOp.MAX)
        asked, wanted = flags.tolist()
        return int(asked), bool(wanted)

    @staticmethod
    def stopped(asked: int, saved: object) -> Stopped:
        """The exception that ends the run after the checkpoint `saved` (its path, or None where it failed)."""
        name = signal.Signals(asked).name
        message = f"stopped by {name}; the checkpoint is {saved or 'missing'}; the same command goes on from there"
        log.warning(message)
        return Stopped(asked, message)
