"""Signals ask for a save and the end; real ones are sent to this process, and to a rank of two."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny.processes import agree_on_a_signal, run_ranks

from clp_transfer.train import signals
from clp_transfer.train.signals import Requests

ALONE = SimpleNamespace(is_main_process=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 75)])
def test_a_signal_is_noted_and_the_old_handler_comes_back(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    with Requests() as requests:
        assert requests.any_rank(ALONE) == (0, False)
        os.kill(os.getpid(), number)
        assert requests.any_rank(ALONE, due=True) == (number, True)
        with pytest.raises(SystemExit, match=f"stopped by {number.name}.*step-7") as stop:
            raise requests.stopped(number, "step-7")
    assert stop.value.code == status
    assert signal.getsignal(number) is before


def test_a_second_interrupt_stops_at_once_but_not_its_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun passes the terminal's Ctrl-C on to ranks that had it already."""
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGINT)
        now[0] += 0.5
        os.kill(os.getpid(), signal.SIGINT)
        assert requests.asked == signal.SIGINT
        now[0] += 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_first_request_counts() -> None:
    with Requests() as requests:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert requests.asked == signal.SIGTERM


def test_another_thread_does_without() -> None:
    found = []

    def work() -> None:
        with Requests() as requests:
            found.append(requests.any_rank(ALONE))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(0, False)] and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_what_one_rank_is_sent_all_ranks_learn_in_the_same_step(tmp_path: Path) -> None:
    assert run_ranks(2, agree_on_a_signal, tmp_path) == [0, 0]
    answers = [(0, False), (10, False), (10, True)]
    assert int(signal.SIGUSR1) == 10
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)] == [repr(answers)] * 2
