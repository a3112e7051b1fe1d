"""Completeness: whole or absent, keyed by settings and inputs, never half-written."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from clp_transfer import manifest
from clp_transfer.errors import UserError
from clp_transfer.files import locked, write_json
from clp_transfer.manifest import Plan, digest, is_complete, read, writing


def made(out: Path, **settings: object) -> Plan:
    plan = Plan("test", out, dict(settings), {"input": "abc"})
    with writing(plan) as working:
        (working / "sub").mkdir(exist_ok=True)
        (working / "sub" / "file.bin").write_bytes(b"12345")
    return plan


def test_complete_only_with_the_same_settings_and_inputs(tmp_path: Path) -> None:
    plan = made(tmp_path / "out", a=1)
    assert is_complete(plan)
    assert not is_complete(Plan("test", plan.out, {"a": 2}, plan.inputs))
    assert not is_complete(Plan("test", plan.out, plan.settings, {"input": "other"}))
    assert is_complete(Plan("test", plan.out, {"a": 1}, {"input": "abc"}))


@pytest.mark.parametrize("damage", ["remove", "truncate"])
def test_a_missing_or_short_file_makes_it_incomplete(tmp_path: Path, damage: str) -> None:
    plan = made(tmp_path / "out", a=1)
    file = plan.out / "sub" / "file.bin"
    if damage == "remove":
        file.unlink()
    else:
        file.write_bytes(b"123")
    assert not is_complete(plan) and read(plan.out) is None


def test_an_interrupted_write_leaves_the_old_result_and_is_resumed_by_the_same_plan_only(tmp_path: Path) -> None:
    old = made(tmp_path / "out", a=1)
    new = Plan("test", old.out, {"a": 2})
    with pytest.raises(KeyboardInterrupt), writing(new) as working:
        (working / "half").write_text("half")
        raise KeyboardInterrupt
    assert is_complete(old) and not is_complete(new)
    with writing(new) as working:
        assert (working / "half").exists()
    assert is_complete(new)
    with pytest.raises(KeyboardInterrupt), writing(new) as working:
        raise KeyboardInterrupt
    with writing(Plan("test", old.out, {"a": 3})) as working:
        assert not (working / "half").exists()


@pytest.mark.parametrize("moment", ["manifest", "rename"])
def test_killed_at_the_very_end_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """Before the manifest is written the stage goes on; after it the folder only has to be renamed."""
    plan = Plan("test", tmp_path / "out", {"a": 1})
    name = "_manifest" if moment == "manifest" else "publish"

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, name, dies)
    with pytest.raises(KeyboardInterrupt), writing(plan, temporary="checkpoints") as working:
        (working / "result").write_text("1")
        (working / "checkpoints").mkdir()
        (working / "checkpoints" / "step-5").write_text("5")
    monkeypatch.undo()
    assert is_complete(plan) == (moment == "rename")
    if moment == "manifest":
        with writing(plan, temporary="checkpoints") as working:
            assert (working / "checkpoints" / "step-5").exists()
    assert is_complete(plan)
    assert sorted(p.name for p in plan.out.rglob("*")) == ["manifest.json", "result"]


def test_a_foreign_file_called_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("x")
    assert read(tmp_path) is None
    assert digest(tmp_path / "model")


def test_digest_follows_the_content_not_the_settings(tmp_path: Path) -> None:
    one, two = made(tmp_path / "one", a=1), made(tmp_path / "two", a=2)
    assert digest(one.out) == digest(two.out)
    assert digest(one.out / "sub") == digest(two.out / "sub", "file*")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "file.bin").write_bytes(b"12345")
    assert digest(plain) == digest(one.out / "sub")
    (plain / "file.bin").write_bytes(b"12346")
    assert digest(plain) != digest(one.out / "sub")


def test_digest_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run the stage"):
        digest(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"finished train\.\*"):
        digest(made(tmp_path / "one", a=1).out, "train.*")


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(UserError, match="already writing"), locked(tmp_path / "lock"):
        pass


def test_a_result_that_another_process_is_just_finishing_is_waited_for(tmp_path: Path) -> None:
    plan = made(tmp_path / "one", a=1)
    plan.out.rename(plan.working)
    held = threading.Event()

    def finish() -> None:
        with locked(plan.lock):
            held.set()
            time.sleep(0.4)
            plan.working.rename(plan.out)

    other = threading.Thread(target=finish)
    other.start()
    held.wait()
    assert is_complete(plan) and not plan.working.exists()
    other.join()


def test_a_finished_result_that_nobody_renamed_is_renamed(tmp_path: Path) -> None:
    plan = made(tmp_path / "one", a=1)
    plan.out.rename(plan.working)
    assert is_complete(plan) and not plan.working.exists() and read(plan.out)


def test_write_json_is_atomic(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", _Circular.value)
    assert (tmp_path / "a.json").read_text() == '{\n  "x": 1\n}\n'
    assert list(tmp_path.iterdir()) == [tmp_path / "a.json"]


class _Circular:
    value: list = []  # noqa: RUF012
    value.append(value)
