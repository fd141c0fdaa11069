"""The large buffers of values: whether one changed, and what of it to write.

Theory of operation
- A *mark* stands for the content of a buffer: equal marks mean equal bytes. The mark of a new buffer is its hash. That
  of a changed one is the hash of its mark before and of the pages that were written since (`pages`), so finding it
  costs those pages and not the buffer.
- What the store holds of a buffer is *layers*: a whole copy, then patches, each the pages that one commit changed. Too
  many patches are written as one, and a buffer of which half has changed is written whole.
- A buffer is known by where it lies: if its memory was not written since, its content is what it was, whichever object
  lies there now. It is armed before it is hashed, so a write in between is found by the next look. To ask about a
  range, or to arm it, uses up what the system knew of it: whatever else is watched there is told at once.
- Without page tracking every look hashes the buffer, at memory speed, and a change writes it whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import xxhash

from kvs import BlobRef
from lambdakernel.pages import PAGE, Pages, Run, merged, size
from lambdakernel.state.arrays import numpy

WATCH_NBYTES = 1 << 20
"""Bytes from which a buffer is watched; to hash a smaller one costs less than 0.1 ms."""
MAX_WATCHED = 1024
"""Buffers that are watched at once; the one that was found first is forgotten first."""
MAX_LAYERS = 16
_IMMUTABLE_FILES = ("/memfd:lk-parcel",)
"""Sealed memory files in which results of tasks come."""
Layers = tuple[BlobRef, ...]
"""The blobs that make up one buffer: a whole copy, then patches in the order in which they apply."""
_RUN = struct.Struct("<QQ")


@dataclass(slots=True)
class _Watched:
    mark: bytes
    """Of its content when it was armed, hashed or committed last."""
    layers: Layers = ()
    """What the store holds under `mark`; empty if it does not."""
    dirty: list[Run] = field(default_factory=list)
    """Written since `mark`."""
    patched: list[Run] = field(default_factory=list)
    """What `layers` changes of its first."""
    edges: tuple[bytes, bytes] = field(default=(b"", b""), repr=False)
    """Its bytes on the first page and on the last: neighbours in memory write to those pages too."""
    is_armed: bool = True
    chained: bytes = b""
    """What stands for its content now, if it is dirty and was asked for since its last write."""


class Buffers:
    """What is known of the buffers in this process. Owns the page tracking; `close` ends it."""

    def __init__(self) -> None:
        self._pages = Pages()
        self._watched: dict[Run, _Watched] = {}
        self._looked: set[Run] | None = None
        """What was looked at since `look_once`; None if each look is a new one."""

    def close(self) -> None:
        self._pages.close()
        self._watched.clear()

    def after_fork(self) -> None:
        """This process is a fork of the one that watched: what the system does not tell it is watched no more."""
        self._pages = Pages()
        self._watched = {place: watched for place, watched in self._watched.items() if not watched.is_armed}

    def look_once(self) -> None:
        """From here on one look at each buffer will do: for as long as no code of a value runs, and nothing that was
        looked at goes."""
        self._looked = set()

    def look_each_time(self) -> None:
        """Not any more."""
        self._looked = None

    # -- marks

    def mark(self, view: memoryview) -> bytes:
        """Stands for the bytes of `view`: the same if they are the same as at the last look."""
        place = _place(view) if view.nbytes >= WATCH_NBYTES else None
        if place is None:
            return xxhash.xxh3_128_digest(view)
        watched = self._watched.get(place)
        if watched is not None and self._look(place, watched):
            dirty = _without_edges(watched.dirty, place, watched, view)
            if dirty != watched.dirty:
                watched.dirty, watched.chained = dirty, b""
            if not dirty:
                return watched.mark
            if not watched.chained:  # all looks of one commit would hash the same pages
                watched.chained = _chained(watched, view)
            return watched.chained
        self._watched.pop(place, None)
        armed = self._pages.is_ours(*place, _IMMUTABLE_FILES) and self._arm(place)
        mark = xxhash.xxh3_128_digest(view)
        if armed:
            self._watch(place, _Watched(mark, edges=_edges(place, view)))
        return mark

    def _watch(self, place: Run, watched: _Watched) -> None:
        self._watched[place] = watched
        if len(self._watched) > MAX_WATCHED:
            del self._watched[next(iter(self._watched))]

    def map(self, layers: Layers, mark: bytes, source: BlobSource) -> memoryview:
        """The buffer that `layers` make up, and `mark` stands for: mapped, writable, for this process alone.

        Raises:
            KvsError: a blob is missing or damaged.
            ValueError: a patch is none.
        """
        view, patched = mapped(layers, source)
        place = _place(view) if view.nbytes >= WATCH_NBYTES and self._pages.works else None
        if place is not None:
            self._forget_overlapping(place)
            if not patched or self._pages.arm(*place):
                edges = _edges(place, view)
                self._watch(place, _Watched(mark, layers, [], merged(patched), edges, is_armed=bool(patched)))
        return view

    def any_written(self, marks: Collection[bytes]) -> bool:
        """Whether a watched buffer was written since one of `marks` stood for it; others are watched no more."""
        for place, watched in list(self._watched.items()):
            if watched.mark not in marks:
                del self._watched[place]
            elif self._look(place, watched) and watched.dirty:
                return True
        return False

    def _look(self, place: Run, watched: _Watched) -> bool:
        """Bring what is known of a buffer up to date; False if nobody can say what happened to it."""
        if self._looked is not None:
            if place in self._looked:
                return True
            self._looked.add(place)
        if not watched.is_armed:
            runs = self._pages.private(*place)
            if not runs:
                return runs is not None
            if not self._arm(place):
                return False
            watched.is_armed = True
            between = self._pages.private(*place, is_armed=True)
            runs = None if between is None else [*runs, *between]
        else:
            runs = self._pages.written(*place)
        if runs is None:
            return False
        self._note(runs, place)
        return True

    def _arm(self, place: Run) -> bool:
        for other, watched in self._overlapping(place):
            if watched.is_armed and other != place:
                runs = self._pages.written(*other)
                if runs is None:
                    del self._watched[other]
                else:
                    self._note(runs, other)
        return self._pages.arm(*place)

    def _note(self, runs: Sequence[Run], place: Run) -> None:
        """Pieces of `place` were written: tell whatever is watched there, on the same pages as well."""
        pages = [((place[0] + start) // PAGE * PAGE, -(-(place[0] + end) // PAGE) * PAGE) for start, end in runs]
        for (address, nbytes), watched in self._overlapping(place) if runs else ():
            moved = [(max(start - address, 0), min(end - address, nbytes)) for start, end in pages]
            found = [run for run in moved if run[0] < run[1]]
            if found:
                watched.dirty, watched.chained = merged([*watched.dirty, *found]), b""

    def _overlapping(self, place: Run) -> list[tuple[Run, _Watched]]:
        """What is watched on any page of `place`, itself included."""
        start, end = place[0] - PAGE, place[0] + place[1] + PAGE
        return [(p, w) for p, w in self._watched.items() if p[0] < end and start < p[0] + p[1]]

    def _forget_overlapping(self, place: Run) -> None:
        for other, _ in self._overlapping(place):
            del self._watched[other]

    # -- what to write

    def layers(self, view: memoryview, mark: bytes, put: Callable[[Any], BlobRef]) -> Layers:
        """Store what is not stored yet of `view`, whose mark is `mark`; the layers that make it up now.

        Raises:
            Exception: what `put` raised; nothing is forgotten, so the next call writes the same.
        """
        watched = self._watched.get(_place(view) or (0, 0))
        if watched is None or not watched.layers:
            return (put(view),)
        if not watched.dirty and watched.mark == mark:
            return watched.layers
        changed = merged([*watched.patched, *watched.dirty])
        if 2 * size(changed) > view.nbytes:
            return (put(view),)
        if len(watched.layers) < MAX_LAYERS:
            return (*watched.layers, put(_patch(view, watched.dirty)))
        return (watched.layers[0], put(_patch(view, changed)))

    def committed(self, view: memoryview, mark: bytes, layers: Layers) -> None:
        """The store holds `view` as `layers`, durably: later writes are told from here."""
        place = _place(view) if view.nbytes >= WATCH_NBYTES else None
        watched = self._watched.get(place) if place is not None else None
        if place is None or watched is None:
            return
        if len(layers) == 1:
            watched.patched = []
        elif layers[:1] == watched.layers[:1]:
            watched.patched = merged([*watched.patched, *watched.dirty])
        else:  # of another buffer with the same content: what its patches change is not known here
            watched.patched = [(0, view.nbytes)]
        watched.mark, watched.layers, watched.dirty, watched.chained = mark, layers, [], b""
        watched.edges = _edges(place, view)


def _place(view: memoryview) -> Run | None:
    """Address and size of a buffer; None if it cannot be told."""
    np = numpy()
    if np is None or not view.nbytes:
        return None
    return int(np.frombuffer(view, "u1").__array_interface__["data"][0]), view.nbytes


def _chained(watched: _Watched, view: memoryview) -> bytes:
    found = xxhash.xxh3_128(watched.mark)
    for run in watched.dirty:
        found.update(_RUN.pack(*run))
        found.update(view[slice(*run)])
    return found.digest()


def _edges(place: Run, view: memoryview) -> tuple[bytes, bytes]:
    address, nbytes = place
    first, last = _edge_runs(address, nbytes)
    return bytes(view[slice(*first)]), bytes(view[slice(*last)])


def _edge_runs(address: int, nbytes: int) -> tuple[Run, Run]:
    """The part on a page that is not all its own, at the start and at the end."""
    first = -address % PAGE
    last = nbytes - (address + nbytes) % PAGE
    return (0, first), (last, nbytes)


def _without_edges(runs: Sequence[Run], place: Run, watched: _Watched, view: memoryview) -> list[Run]:
    """`runs`, but for the parts on shared pages where nothing of the buffer itself has changed."""
    if not runs:
        return []
    first, last = _edge_runs(*place)
    found = []
    for start, end in runs:
        if start < first[1] and view[slice(*first)] == watched.edges[0]:
            start = min(first[1], end)
        if end > last[0] and view[slice(*last)] == watched.edges[1]:
            end = max(last[0], start)
        found.append((start, end))
    return merged(found)


def _patch(view: memoryview, runs: Sequence[Run]) -> bytes:
    """Those pieces of `view`: their count, where they are, then their bytes."""
    head = struct.pack("<Q", len(runs)) + b"".join(_RUN.pack(*run) for run in runs)
    return b"".join((head, *(view[slice(*run)] for run in runs)))


class BlobSource(Protocol):
    """What blobs are read from."""

    def open_blob(self, ref: BlobRef) -> memoryview: ...

    def read_blob(self, ref: BlobRef) -> bytes: ...


def mapped(layers: Layers, source: BlobSource) -> tuple[memoryview, list[Run]]:
    """The buffer that `layers` make up, mapped for this process alone, and what of it is patched.

    Raises:
        KvsError: a blob is missing or damaged.
        ValueError: a patch is none.
    """
    view = source.open_blob(layers[0])
    return view, [run for ref in layers[1:] for run in apply_patch(view, source.read_blob(ref))]


def apply_patch(target: memoryview, patch: bytes) -> list[Run]:
    """Write the pieces of a patch into `target`, which is changed in place; where they went.

    Raises:
        ValueError: it is no patch for a buffer of this size; `target` may hold a part of it.
    """
    try:
        (count,) = struct.unpack_from("<Q", patch)
        runs = [_RUN.unpack_from(patch, 8 + n * _RUN.size) for n in range(count)]
    except struct.error as e:
        raise ValueError("a patch is cut short") from e
    at = 8 + count * _RUN.size
    if at + size(runs) != len(patch):
        raise ValueError("a patch has another length than its pieces")
    for start, end in runs:
        target[start:end] = memoryview(patch)[at : at + end - start]
        at += end - start
    return runs
