"""The tail of a lane's log: a file beside the database, to which the holder adds one frame a commit.

Theory of operation
- A commit is one `write` at the end of the file: kill -9 leaves it whole, or cut off. Readers leave what is cut off
  alone; the next holder cuts it away before it adds anything.
- When its commits were moved to the database, flushed, a new file takes its place, with the frames that came
  meanwhile: nothing is ever cut off under a reader that has read it. A reader holds the file that it reads
  open, and sees by the inode that another has come. All frames of the old one are then in the database.
- What was read of the file is kept in memory until another has come, so a look costs the new bytes only.
- After a power loss the end of the file may hold anything, from the first frame on that was not flushed. Whoever looks
  after the space then cuts that off (`drop_torn`).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence

from kvs.errors import LaneLost, StoreUnusable
from kvs.tiers.files import sync_folder
from kvs.tiers.frames import Frame, frames, packed, plain_frames
from kvs.tiers.rows import CommitRow, EntryRow

SUFFIX = "-tail"
_NEW = "new-tail"
_ROUNDS, _REST_NBYTES = 4, 1 << 16


class Tail:
    """The tail of the log at a path. One thread at a time, but `sync` and `drop` may run beside `append` and reads."""

    def __init__(self, log: str, base: Callable[[], int]) -> None:
        """`base` says which commit the database ends with."""
        self.path, self._base = log + SUFFIX, base
        self._fd = self._end = self._inode = -1
        self._files = self._newest = 0
        self._is_torn = self._is_spoilt = self._is_placed = False
        self.is_mine = False
        """Whether `hold` was called: nobody else adds to it."""
        self._changing = threading.Lock()
        self.frames: dict[int, Frame] = {}
        """By number, oldest first. Another one comes with another file: who holds this may go on reading it."""

    @property
    def nbytes(self) -> int:
        """Of the frames that are not in the database yet; 0 before the first `load`."""
        return max(0, self._end)

    # -- reading

    def version(self) -> tuple[int, int]:
        """What changes when a frame was added, or another file has come. About 1 us."""
        if self.is_mine:
            return self._files, self._end
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._forget()
            return self._files, 0
        if found.st_ino != self._inode:
            self._forget()
            self._open(os.O_RDONLY)
            return self._files, os.fstat(self._fd).st_size if self._fd >= 0 else 0
        return self._files, found.st_size

    def load(self) -> dict[int, Frame]:
        """All frames that are there now; what was read before is not read again."""
        if not self.is_mine:
            _, size = self.version()
            if self._fd >= 0:
                self._read(size)
        return self.frames

    def after(self, n: int) -> list[Frame]:
        """The frames that were loaded, of commits after `n`."""
        found: list[Frame] = []
        for frame in reversed(self.frames.values()):
            if frame[0] <= n:
                break
            found.append(frame)
        found.reverse()
        return found

    def _read(self, size: int) -> None:
        if size <= self._end:
            return
        data = os.pread(self._fd, size - self._end, self._end)
        last, base = (next(reversed(self.frames)), 0) if self.frames else (0, self._base())
        new, at = plain_frames(data, last, self._end)
        if at < len(data):
            last = new[-1].n if new else last
            new += frames(data[at:], last=last, base=base, start=self._end + at, with_sums=False)
        if new:
            self.frames.update({frame[0]: frame for frame in new})
            self._end = new[-1].end

    def _open(self, flags: int) -> None:
        try:
            self._fd = os.open(self.path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # nothing was added yet
            return
        self._end, self._is_placed = 0, False
        self._inode = os.fstat(self._fd).st_ino
        self._files += 1

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self._end = self._inode = -1
        self.frames = {}

    # -- writing

    def hold(self) -> None:
        """Read what an earlier holder left, cut off what it did not finish, and be ready to add."""
        if self.is_mine:
            return
        self._forget()
        self._open(os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._read(os.fstat(self._fd).st_size)
        if os.fstat(self._fd).st_size > self._end:
            os.ftruncate(self._fd, self._end)
        self._newest = max(self.frames, default=0)
        self.is_mine = True

    def append(self, commit: CommitRow, rows: Sequence[EntryRow], *, disk: bool) -> None:
        """Add one commit, with `disk` flushed.

        Raises:
            LaneLost: another has written the file. OSError: nothing was added.
            StoreUnusable: it could not be flushed. It may be there when the log is opened again; nothing can be added
                until then.
        """
        data = packed(commit, rows)
        with self._changing:
            self._refuse_strange()
            if commit.n <= self._newest:
                raise LaneLost(self.path, f"commit {commit.n} is there already")
            start, end = self._end, self._end + len(data)
            self._write(data, Frame(commit.n, commit, {row.key: row for row in rows}, start, end, True))
            if disk:
                self._flush()

    def _refuse_strange(self) -> None:
        """Go on only if the file ends where we left it."""
        if self._is_spoilt:
            raise StoreUnusable(self.path, "a flush has failed before", "Check the disk, then open the space anew.")
        if self._is_torn:
            self._cut()
        stat = os.fstat(self._fd)
        if stat.st_size != self._end or not stat.st_nlink:
            raise LaneLost(self.path, "another process has written it since")

    def _write(self, data: bytes, frame: Frame) -> None:
        """All of it or nothing; what is left of a write that failed is cut off."""
        done = 0
        try:
            done = os.write(self._fd, data)
        finally:
            if done == len(data) or os.fstat(self._fd).st_size == frame.end:  # an interrupt may come on the way back
                self.frames[frame.n] = frame
                self._newest, self._end = frame.n, frame.end
            else:
                self._cut()
        if done != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _cut(self) -> None:
        """If it cannot be done now, it is before anything else is added."""
        self._is_torn = True
        os.ftruncate(self._fd, self._end)
        self._is_torn = False

    def _flush(self) -> None:
        try:
            self._sync(self._fd)
        except OSError as e:
            self._is_spoilt = True  # readers may have it, so its number must not be given to another
            raise StoreUnusable(
                self.path, f"a commit could not be flushed ({e})", "Check the disk, then open the space anew."
            ) from e

    def sync(self) -> None:
        """Flush the frames that are there."""
        if not self.is_mine:
            self.load()
        with self._changing:  # the file may be exchanged for another meanwhile
            fd = os.dup(self._fd) if self._fd >= 0 else -1
        if fd >= 0:
            try:
                self._sync(fd)
            finally:
                os.close(fd)

    def _sync(self, fd: int) -> None:
        os.fdatasync(fd)
        if not self._is_placed:
            sync_folder(os.path.dirname(self.path))
            self._is_placed = True

    def drop(self, folded: Sequence[Frame]) -> None:
        """Put a new file in the place of this, without the oldest frames, which are in the database, flushed.

        Raises:
            OSError, LaneLost, StoreUnusable: the file stays as it is.
        """
        start = folded[-1].end
        made = f"{os.path.dirname(self.path)}/{_NEW}"
        fd = os.open(made, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            copied = start
            for _ in range(_ROUNDS):  # most of it beside whoever appends, who then waits for the flush of the rest
                with self._changing:
                    end = self._end
                if end - copied <= _REST_NBYTES:
                    break
                copied = self._copy(fd, copied, end)
            with self._changing:
                self._refuse_strange()
                if self._end > copied:
                    self._copy(fd, copied, self._end)
                os.rename(made, self.path)
                left = [frame for frame in self.frames.values() if frame.start >= start]
                fd, self._fd, self._end, self._is_placed = self._fd, fd, self._end - start, False
                self._inode = os.fstat(self._fd).st_ino
                self._files += 1
                self.frames = {f.n: f._replace(start=f.start - start, end=f.end - start) for f in left}
        finally:
            os.close(fd)  # of the file that goes: the new one if this failed

    def _copy(self, fd: int, start: int, end: int) -> int:
        """Append a stretch of the file to another, flushed; where it ends. A power loss must not take what had been
        flushed where it was."""
        data = os.pread(self._fd, end - start, start)
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(fd)
        return end

    def drop_torn(self, since: int | None) -> int:
        """Cut off, after a power loss, from the first frame on that is not whole and comes after commit `since`.

        With None, every commit was flushed before the next: only the last frame can be torn. How many frames went.
        """
        if not os.path.exists(self.path):
            return 0
        self.hold()
        found = list(frames(os.pread(self._fd, self._end, 0), base=self._base()))
        doubted = found[-1:] if since is None else [frame for frame in found if frame.n > since]
        start = next((frame.start for frame in doubted if not frame.is_whole), None)
        if start is None:
            return 0
        self._end = start
        self._cut()
        self.frames = {frame.n: frame for frame in found if frame.start < start}
        return len(found) - len(self.frames)

    def close(self) -> None:
        self._forget()  # without the lock: in a fork of the holder it may be held for ever
        self.is_mine = False
