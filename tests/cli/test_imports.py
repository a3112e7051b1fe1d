"""The scripts at the root must not shadow the packages that lm-evaluation-harness imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
import runpy, sys
from clp_transfer.cli import stages
def probe(config):
    import evaluate, importlib.util
    assert hasattr(evaluate, "load"), evaluate.__file__
    assert importlib.util.find_spec("clp") is None
    print("the real one")
for name in stages.STAGES:
    stages.STAGES[name] = probe
sys.argv = sys.argv[1:]
sys.path[0] = ROOT  # what `python evaluate.py` puts there
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("script", ["evaluate.py", "clp.py", "train.py", "prepare.py", "scripts/report.py"])
def test_evaluate_is_the_package_inside_every_script(script: str) -> None:
    probe = PROBE.replace("ROOT", repr(str(ROOT)))
    done = subprocess.run(
        [sys.executable, "-c", probe, str(ROOT / script), "experiment=mini"], cwd=ROOT, capture_output=True, text=True
    )
    assert "the real one" in done.stdout, done.stderr


def test_without_the_remedy_it_would_be_our_script() -> None:
    """The trap is real: from the root, `import evaluate` finds evaluate.py."""
    code = "import evaluate; print(hasattr(evaluate, 'load'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


def test_evaluate_is_the_package_in_this_process() -> None:
    import evaluate

    assert hasattr(evaluate, "load")
