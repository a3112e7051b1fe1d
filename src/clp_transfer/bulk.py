"""Large files in one pass: read, hashed and written at the same time, past the system's cache.

A page that the cache does not hold yet costs the processor many times what it costs to have the disk put the bytes
where they are wanted. So what the cache holds is read from there, and the rest of a large file straight from the disk;
a large file is written straight to the disk, and its hash is that of the very bytes that were handed to the disk:
nobody has to read the file again for it. Of a file that the user neither owns nor may write to, the system does not
tell what the cache holds: it is read through the cache.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import mmap
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from clp_transfer.page_cache import is_cached
from clp_transfer.turns import let_pass

# Smaller files, and smaller pieces of large ones, go through the cache, where the next reader finds them.
LARGE, SMALL = 64 << 20, 128 << 10
BLOCK = 4 << 20
# Of a file from this size on, four times as much at once: each piece has to wait for Python's lock several times.
HUGE = 1 << 30
ALIGNED = 4096  # what disks ask of positions, lengths and addresses
BUFFERS = 3  # one is filled while one is hashed and written, and one waits
DIRECT = getattr(os, "O_DIRECT", 0)  # Linux
CANNOT = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT}  # the last without /proc
_OWN = threading.local()


class Reader:
    """An open file that is read from any place on. Raises OSError as `os.open` does."""

    def __init__(self, path: Path) -> None:
        self._plain = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._plain).st_size
        self._direct: int | None = None
        self._may_direct = self.size >= LARGE and DIRECT != 0

    def into(self, view: memoryview, start: int) -> None:
        """Fill `view` with the bytes from `start` on; raises EOFError, with how many lack, where the file ends."""
        while view:
            count = self._some(view, start)
            if count == 0:
                raise EOFError(len(view))
            view, start = view[count:], start + count

    def blocks(self) -> Iterator[memoryview]:
        """The whole file from front to back; a block holds until the next is asked for. What is urgent comes first."""
        buffers = [_new_block(min(_block_size(self.size), max(self.size, 1))) for _ in range(2)]
        start = 0
        with ThreadPoolExecutor(1) as pool:
            let_pass()
            reading = pool.submit(self._some, buffers[0], start)
            while count := reading.result():
                start += count
                buffers.reverse()
                let_pass()
                reading = pool.submit(self._some, buffers[0], start)
                yield buffers[1][:count]

    def close(self) -> None:
        """Close it."""
        for descriptor in (self._plain, self._direct):
            if descriptor is not None:
                os.close(descriptor)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _some(self, view: memoryview, start: int) -> int:
        """Read at least one byte, if there is one; how many."""
        view = view[: 4 * BLOCK]  # no more is asked about than is read before the next question
        small = not self._may_direct or len(view) < SMALL
        if small or is_cached(self._plain, start, min(len(view), self.size - start)):
            return os.preadv(self._plain, [view], start)
        return self._past_cache(view, start)

    def _past_cache(self, view: memoryview, start: int) -> int:
        skipped = start % ALIGNED
        straight = skipped == 0 and len(view) >= ALIGNED and _address(view) % ALIGNED == 0
        block = view if straight else _own_block()
        wanted = min(len(block) // ALIGNED, -(-(skipped + len(view)) // ALIGNED)) * ALIGNED
        try:
            if self._direct is None:
                # The very file that is open, also where another has taken its name meanwhile.
                self._direct = os.open(f"/proc/self/fd/{self._plain}", os.O_RDONLY | DIRECT)
            found = os.preadv(self._direct, [block[:wanted]], start - skipped)
        except OSError as error:
            if error.errno not in CANNOT:
                raise
            self._may_direct = False
            return os.preadv(self._plain, [view], start)
        count = max(0, min(found - skipped, len(view)))
        if not straight:
            view[:count] = block[skipped : skipped + count]
        return count


class Writer:
    """A new file, written from front to back. Raises OSError as `os.open` does, also where the file exists.

    `size`: how large it becomes, about. Used as a context manager; `sha256` is known once that has ended well, and the
    file is then on the disk.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.sha256 = ""
        self._hash = hashlib.sha256()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self._large = size >= LARGE
        self._direct = self._large and _set_direct(self._descriptor, True)
        self._block = _block_size(size)
        self._free = [_new_block(self._block) for _ in range(BUFFERS if self._large else 1)]
        self._filled = 0
        self._pending: list[tuple[memoryview, list[Future[None]]]] = []
        # In threads of their own: both let Python go on meanwhile.
        self._pools = [ThreadPoolExecutor(1), ThreadPoolExecutor(1)]

    def write(self, view: memoryview) -> None:
        """Append all of these bytes."""
        while view:
            room = self._room(len(view))
            room[:] = view[: len(room)]
            self._taken(len(room))
            view = view[len(room) :]

    def copy(self, reader: Reader, start: int, count: int) -> None:
        """Append `count` bytes of a file from `start` on, after what is urgent; raises EOFError where it ends early."""
        while count:
            let_pass()
            room = self._room(count)
            reader.into(room, start)
            self._taken(len(room))
            start, count = start + len(room), count - len(room)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        try:
            if kind is None:
                self._flush()
                self._wait(0)
                os.fsync(self._descriptor)
                self.sha256 = self._hash.hexdigest()
        finally:
            for pool in self._pools:
                pool.shutdown()
            os.close(self._descriptor)

    def _room(self, most: int) -> memoryview:
        return self._free[0][self._filled : min(self._block, self._filled + most)]

    def _taken(self, count: int) -> None:
        self._filled += count
        if self._filled == self._block:
            self._flush()

    def _flush(self) -> None:
        """Have the block that is being filled hashed and written, and go on with a free one."""
        buffer = self._free.pop(0)
        block, self._filled = buffer[: self._filled], 0
        jobs = [pool.submit(job, block) for pool, job in zip(self._pools, (self._hash.update, self._put), strict=True)]
        self._pending.append((buffer, jobs))
        if not self._free:
            self._wait((BUFFERS - 1) if self._large else 0)

    def _wait(self, left: int) -> None:
        while len(self._pending) > left:
            buffer, jobs = self._pending.pop(0)
            for job in jobs:
                job.result()
            self._free.append(buffer)

    def _put(self, block: memoryview) -> None:
        whole = len(block) // ALIGNED * ALIGNED
        if self._direct:
            block = self._put_direct(block[:whole], block)
        while block:
            block = block[os.write(self._descriptor, block) :]

    def _put_direct(self, whole: memoryview, block: memoryview) -> memoryview:
        """Write what the disk takes as it is; what is left, at the file's end or where that cannot be done."""
        done = 0
        try:
            while done < len(whole) and done % ALIGNED == 0:
                done += os.write(self._descriptor, whole[done:])
        except OSError as error:
            if error.errno not in CANNOT:
                raise
        if done < len(block):
            self._direct = _set_direct(self._descriptor, False)
        return block[done:]


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with Reader(path) as reader:
        for block in reader.blocks():
            digest.update(block)
    return digest.hexdigest()


def _block_size(file_size: int) -> int:
    return 4 * BLOCK if file_size >= HUGE else BLOCK


def _new_block(size: int) -> memoryview:
    """Memory that begins where a disk can put something."""
    return memoryview(mmap.mmap(-1, size))


def _own_block() -> memoryview:
    """This thread's block for what comes straight from a disk; one for all files, since new memory is slow."""
    if len(getattr(_OWN, "block", ())) != BLOCK:
        _OWN.block = _new_block(BLOCK)
    block: memoryview = _OWN.block
    return block


def _address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def _set_direct(descriptor: int, on: bool) -> bool:
    """Turn writing past the cache on or off; whether it is on now."""
    if not DIRECT:
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | DIRECT if on else flags & ~DIRECT)
    except OSError:
        return False
    return on
