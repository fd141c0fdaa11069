"""Whether anybody has committed anything to a space since we last looked, for the price of comparing 256 bytes.

Theory of operation
- `lanes/news` has a number a lane. Whoever writes a lane makes its number odd before each transaction and even after
  it, always greater than before. A reader maps the file, keeps what it held before it read the lanes, and has nothing
  to do while that is what it still holds and every number in it is even. Else it looks into the lanes whose numbers are
  odd or other than they were, and into no more.
- What a process itself commits is no news to it: it puts its own number into what it held.
- A writer that dies or is stopped in the middle leaves its number odd: readers then look into the lanes each time, as
  they do where there is no such file. So nothing is ever missed; the next holder makes the number even.
- The file is of use among processes that run now, and never flushed: what a power loss leaves in it is as good as
  anything else. It is written, not mapped, by writers: a full disk is then an error and no signal.
- Lanes beyond the table share its last number, which is odd for ever from the first of them on.
"""

from __future__ import annotations

import errno
import mmap
import os
import struct

LANES = 32
NBYTES = 8 * LANES
_NUMBER = struct.Struct("<Q")
_ODD = int.from_bytes(_NUMBER.pack(1) * LANES, "little")


class Ringer:
    """Tells of the transactions of one lane; held by whoever writes it."""

    _number: int

    def __init__(self, path: str, lane: int) -> None:
        """Open the table at `path`, made if it is not there.

        Raises:
            OSError: it cannot be written.
        """
        self._is_shared = lane >= LANES - 1
        self._at = 8 * min(lane, LANES - 1)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(self._fd).st_size < NBYTES:
                os.ftruncate(self._fd, NBYTES)
            (self._number,) = _NUMBER.unpack(os.pread(self._fd, 8, self._at))
            if self._is_shared:
                self._say(1)
            elif self._number % 2:  # its last writer died in a transaction
                self._say(self._number + 1)
        except BaseException:
            self.close()
            raise

    def begin(self) -> None:
        """Before a transaction.

        Raises:
            OSError: it could not be said, or the space was deleted; do not begin.
        """
        if not os.fstat(self._fd).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the space was deleted")
        if not self._is_shared and self._number % 2 == 0:
            self._say(self._number + 1)

    def end(self) -> None:
        """After it, whatever became of it. What cannot be said leaves the number odd, which readers can live with."""
        if not self._is_shared:
            try:
                self._say(self._number + 1)
            except OSError:
                return

    def begin_among_others(self) -> None:
        """`begin` where others may write the lane at the same time: what was said last need not be ours.

        Raises:
            OSError: see `begin`.
        """
        if not self._is_shared:
            self._number = self._greatest()
            self._number += self._number % 2
        self.begin()

    def end_among_others(self) -> None:
        """`end` of that: never with a number that readers may have seen before our transaction."""
        if not self._is_shared:
            own = self._number
            try:
                self._number = self._greatest()
            except OSError:
                return
            if self._number > own:
                self._number += 1
                if self._number % 2 == 0:  # another has begun since, and its end tells of ours too
                    return
        self.end()

    def _greatest(self) -> int:
        """The number of the lane, as we know it or as it is there."""
        number: int = _NUMBER.unpack(os.pread(self._fd, 8, self._at))[0]
        return max(self._number, number)

    def _say(self, number: int) -> None:
        os.pwrite(self._fd, _NUMBER.pack(number % (1 << 64)), self._at)
        self._number = number

    def close(self) -> None:
        os.close(self._fd)

    def tell(self, news: News) -> None:
        """To the reader that is in the same hands as this lane: all transactions of it are known there."""
        if not self._is_shared:
            news.know(self._at, _NUMBER.pack(self._number % (1 << 64)))


def ringer_of(path: str) -> Ringer | None:
    """What tells of this log; None for one that is no lane of a space."""
    folder, lane = os.path.split(os.path.dirname(path))
    return Ringer(f"{folder}/news", int(lane)) if lane.isdecimal() else None


class News:
    """A reader's look at the table of a space."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._heard = b""
        self.table: mmap.mmap | bytes = b""
        self.known: bytes | None = None
        """What `table[:]` is while nobody has begun a transaction since the look that `heard` was told of."""

    @property
    def is_quiet(self) -> bool:
        return self.table[:] == self.known

    def look(self) -> bytes:
        """What the table holds now, to be taken before the lanes are read; empty if there is none."""
        if not self.table:
            self._map()
        return bytes(self.table[:])

    def heard(self, look: bytes) -> None:
        """All that had been committed at `look` is known."""
        self._heard = look
        self.known = look if look and not int.from_bytes(look, "little") & _ODD else None

    def is_still(self, lane: int, look: bytes) -> bool:
        """Whether nobody has begun a transaction in a lane between the look that was heard last and this one."""
        number = look[8 * lane : 8 * lane + 8]
        return (
            bool(number) and lane < LANES - 1 and number[0] % 2 == 0 and number == self._heard[8 * lane : 8 * lane + 8]
        )

    def know(self, at: int, number: bytes) -> None:
        """All that has been committed to the lane whose number is at `at` is known, besides what was before."""
        if self.known is not None and number[0] % 2 == 0:
            self.known = self.known[:at] + number + self.known[at + len(number) :]

    def _map(self) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # nobody has written yet
            return
        try:
            if os.fstat(fd).st_size >= NBYTES:  # else its maker is about to make it longer
                self.table = mmap.mmap(fd, NBYTES, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)

    def close(self) -> None:
        self.known, self._heard = None, b""
        if isinstance(self.table, mmap.mmap):
            self.table.close()
        self.table = b""
