"""Where the large values of a space lie, and who moves them: `kvs.movement` on this machine's memory, its disk and the
cold tier.

Theory of operation
- A key of the policy is a blob. `memory` holds verified copies in this process, `node` the files that every process of
  this machine maps, `object` is the cold tier and the home of all. Small values stay in the logs, and do not move.
- A read finds a blob wherever it is. One that is only in the cold tier is fetched to the node by the read itself; so
  budgets are kept by each step of the mover, and may be passed by reads in between.
- A demotion puts the blob in the cold tier, asks whether it is there, and then deletes the file, unless somebody wanted
  it meanwhile or is about to publish it. A crash in between leaves two copies. Mappings of a deleted file stay good.
- What a step did is written to the space's `placement` file, for `python -m kvs stats`.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kvs.cold.membership import as_passed, is_doomed, read_mark
from kvs.errors import KvsError
from kvs.movement.actor import Limits, Mover, Report
from kvs.movement.bids import PERSON, Terms
from kvs.movement.movable import Refused
from kvs.movement.observer import Observer
from kvs.movement.samples import Budget, Key, Load, Sample, Tier
from kvs.pins import NEVER, views
from kvs.tiers.blobs import BlobRef, Blobs, Fetch, refs_from_bytes
from kvs.tiers.files import write_private
from kvs.tiers.protocol import Tier as ColdTier
from kvs.upkeep import SETTLED_NS

if TYPE_CHECKING:
    from kvs.movement.reuse import ReuseModel

MEMORY, NODE, OBJECT = "memory", "node", "object"
FILE = "placement"
MOVE_S = 60.0
_RETRY_MOST_S = 3600.0
"""Of one move over the network; an object store's retries fit in it."""


def tiers_of(memory_bytes: float, disk_bytes: float) -> tuple[Tier, Tier, Tier]:
    """What the policy is told of the three places. Prices are list prices of mid-2026; disk is paid for already."""
    return (
        Tier(MEMORY, memory_bytes, 1e-6, 1e10, 0.005),
        Tier(NODE, disk_bytes, 1e-4, 1e9, 0.0),
        Tier(OBJECT, math.inf, 0.030, 9e7, 0.00003, 0.4e-6, 5e-6),
    )


class Placement:
    """The blobs of one space as tiers whose bytes move (see `Movable`). Safe to use from several threads."""

    def __init__(self, space: str, cold: ColdTier, *, clock: Callable[[], float] = time.time) -> None:
        """`clock` is that of the file system's times."""
        self._space, self._cold, self._clock = space, cold, clock
        self._files = Blobs(f"{space}/blobs", cold.get_blob)
        self._lock = threading.RLock()
        self._held: dict[BlobRef, bytes] = {}
        self._there = set(cold.blobs())
        self._here: dict[BlobRef, float] = {}
        self._observer = Observer(OBJECT)
        self._is_open = True

    # -- reads and writes, as they come

    def noted(self, ref: BlobRef, *, write: bool = False) -> None:
        """A blob was read or put, so that its file is here."""
        with self._lock:
            if self._is_open and ref.nbytes:
                self._here.setdefault(ref, self._clock())
                self._observer.accessed(ref.to_bytes(), ref.nbytes, self._clock(), write=write)
                self._observer.placed(ref.to_bytes(), self._tiers(ref))

    def held(self, ref: BlobRef) -> bytes | None:
        """The bytes, verified when they came, if memory has them."""
        with self._lock:
            data = self._held.get(ref)
            if data is not None:
                self._observer.accessed(ref.to_bytes(), ref.nbytes, self._clock())
            return data

    def close(self) -> None:
        with self._lock:
            self._is_open = False
            self._held.clear()

    # -- what the actor asks for

    def samples(self) -> Iterable[Sample]:
        found = {ref: wanted_s for ref, wanted_s in self._files.files() if ref.nbytes}
        with self._lock:
            for ref in self._here.keys() - found.keys():  # collected, or moved by another process
                if ref not in self._held and ref not in self._there:
                    self._observer.forget(ref.to_bytes())
            self._here = found
            for ref, wanted_s in found.items():
                if self._observer.sample(ref.to_bytes()) is None:  # put by another process, or before this one
                    self._observer.accessed(ref.to_bytes(), ref.nbytes, wanted_s, write=True)
            self._observer.refresh(self._clock())
            for sample in list(self._observer.samples()):
                self._observer.placed(sample.key, self._tiers(_ref(sample.key)))
            return [sample for sample in self._observer.samples() if sample.tiers]

    def loads(self) -> Iterable[Load]:
        return ()

    def model(self) -> ReuseModel:
        with self._lock:
            return self._observer.model

    def used(self, tier: str) -> int:
        with self._lock:
            places: Mapping[str, Iterable[BlobRef]] = {MEMORY: self._held, NODE: self._here, OBJECT: self._there}
            return sum(ref.nbytes for ref in places[tier])

    def promote(self, key: Key, source: str, to: str) -> None:
        ref = _ref(key)
        if to == MEMORY:
            data = self._data(ref)
            with self._lock:
                self._held[ref] = data
        else:
            self._files.open(ref).release()  # fetched, if it is not here
            with self._lock:
                self._here.setdefault(ref, self._clock())
        self._moved(ref)

    def demote(self, key: Key, source: str, to: str) -> None:
        ref = _ref(key)
        with self._leaving(ref, source):
            if to == OBJECT:
                self._copy_to_cold(ref)
            elif ref not in self._here:
                self._files.put(self._data(ref))
                self._files.sync()
                with self._lock:
                    self._here[ref] = self._clock()

    def drop(self, key: Key, tier: str) -> None:
        ref = _ref(key)
        with self._leaving(ref, tier):
            is_kept = (tier == MEMORY and os.path.exists(self._files.path(ref))) or self._until().has_blob(ref)
            if not is_kept:
                with self._lock:
                    self._there.discard(ref)
                raise Refused(f"drop of {ref.digest.hex()}", f"nothing below {tier} holds it")

    def copy(self, key: Key, tier: str, copies: int) -> None:
        raise Refused(f"copy of {_ref(key).digest.hex()}", f"{tier} has one shard")

    @contextmanager
    def _leaving(self, ref: BlobRef, tier: str) -> Iterator[None]:
        """Delete a blob from a tier if the block, which makes sure that another has it, does not raise."""
        last_s = self._sample_s(ref)
        yield
        if tier == MEMORY:
            with self._lock:
                self._held.pop(ref, None)
        else:
            if self._sample_s(ref) != last_s:
                raise Refused(f"demotion of {ref.digest.hex()}", "it was read meanwhile")
            held_ns = min((view.holds_since_ns for view in views(f"{self._space}/pins")), default=NEVER)
            if is_doomed(self._space, ref.digest):  # after the look at who holds it: see `kvs.cold.collector`
                raise Refused(f"demotion of {ref.digest.hex()}", f"{self._cold.name} is about to delete its copy")
            self._files.delete_unwanted(ref, before_s=min(self._here.get(ref, 0.0), (held_ns - SETTLED_NS) / 1e9))
            if os.path.exists(self._files.path(ref)):
                raise Refused(f"demotion of {ref.digest.hex()}", "somebody has put it, and not flushed it yet")
            with self._lock:
                self._here.pop(ref, None)
        self._moved(ref)

    def _copy_to_cold(self, ref: BlobRef) -> None:
        cold = self._until()
        if not cold.has_blob(ref):
            cold.put_blob(ref, memoryview(self._data(ref)))
            if not cold.has_blob(ref):
                raise Refused(f"demotion of {ref.digest.hex()}", f"{cold.name} does not have it")
        with self._lock:
            self._there.add(ref)

    def _data(self, ref: BlobRef) -> bytes:
        with self._lock:
            data = self._held.get(ref)
        if data is not None:
            return data
        if os.path.exists(self._files.path(ref)):
            return self._files.read(ref)
        return b"".join(self._until().get_blob(ref))  # and leave no file, which nobody has decided on

    def _until(self) -> ColdTier:
        return as_passed(self._cold.until(time.monotonic() + MOVE_S), read_mark(self._space))

    def _sample_s(self, ref: BlobRef) -> float:
        with self._lock:
            sample = self._observer.sample(ref.to_bytes())
            return sample.touched_s if sample else 0.0

    def _moved(self, ref: BlobRef) -> None:
        with self._lock:
            self._observer.moved(ref.to_bytes(), self._tiers(ref), self._clock())

    def _tiers(self, ref: BlobRef) -> frozenset[str]:
        places = ((MEMORY, self._held), (NODE, self._here), (OBJECT, self._there))
        return frozenset(name for name, held in places if ref in held)


class PlacedBlobs(Blobs):
    """The blobs of a replica whose reads are noted, and answered from memory where that has them."""

    def __init__(self, directory: str, fetch: Fetch, placement: Placement) -> None:
        super().__init__(directory, fetch)
        self._placement = placement

    def put(self, data: bytes | bytearray | memoryview) -> BlobRef:
        ref = super().put(data)
        self._placement.noted(ref, write=True)
        return ref

    def open(self, ref: BlobRef) -> memoryview:
        view = super().open(ref)
        self._placement.noted(ref)
        return view

    def read(self, ref: BlobRef) -> bytes:
        data = self._placement.held(ref)
        return super().read(ref) if data is None else data


class BackgroundMover:
    """A mover with a thread of its own, which steps every `every_s` seconds until it is closed.

    A step that could not be done (a full disk, say) is tried again after twice the time, then after twice that, up to
    an hour; `failure` and `python -m kvs stats` tell of it meanwhile.
    """

    def __init__(
        self,
        placement: Placement,
        space: str,
        tiers: tuple[Tier, ...],
        budget: Budget,
        *,
        every_s: float,
        before: Callable[[], object],
        terms: Terms = PERSON,
        limits: Limits | None = None,
    ) -> None:
        """`before` is done at the start of each step: flush what was put, so that it may be moved."""
        self._placement, self._space, self._tiers, self._every_s = placement, space, tiers, every_s
        self._before = before
        self._done = self._failed = 0
        self.failure: KvsError | OSError | None = None
        """Why the last step of the thread could not be done; None if it was."""
        self._mover = Mover(
            placement, tiers, budget, terms=terms, limits=limits, model=placement.model, clock=time.time
        )  # fmt: skip
        self._stepping, self._cancelled = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="kvs mover", daemon=True)
        self._thread.start()

    def step(self) -> Report:
        """One step now, in this thread; what it did.

        Raises:
            KvsError: something could not be flushed; nothing was moved.
        """
        with self._stepping:
            self._before()
            report = self._mover.step()
            self._report(report)
            return report

    def close(self, *, deadline_s: float = 2 * MOVE_S) -> None:
        """End it after the move that is under way, and give its memory back.

        Raises:
            KvsError, OSError: its last step could not be done.
        """
        self._cancelled.set()
        self._mover.cancel()
        self._thread.join(deadline_s)
        self._placement.close()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        wait_s = self._every_s
        while not self._cancelled.wait(wait_s):
            try:
                self.step()
            except (KvsError, OSError) as e:
                self.failure, wait_s = e, max(self._every_s, min(2 * wait_s, _RETRY_MOST_S))
                self._report_trouble(e)
            else:
                self.failure, wait_s = None, self._every_s

    def _report_trouble(self, error: Exception) -> None:
        try:
            self._report(Report(), str(error))
        except (KvsError, OSError):  # nothing can be written there: `failure` has it, and `close` raises it
            return

    def _report(self, report: Report, trouble: str = "") -> None:
        self._done += len({move.key for move in report.done})  # one that came up by way of the cold tier moved once
        self._failed += len(report.failed)
        said = {
            "time_s": time.time(),
            "tiers": {t.name: [self._placement.used(t.name), _number(t.nbytes)] for t in self._tiers},
            "moved": self._done,
            "failed": self._failed,
            "left": report.left,
            "why": str(report.failed[0].error) if report.failed else "",
            "trouble": trouble,
        }
        temporary = f"{self._space}/.{FILE}-{os.getpid()}"
        write_private(temporary, json.dumps(said).encode())
        os.rename(temporary, f"{self._space}/{FILE}")

    def __enter__(self) -> BackgroundMover:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def described(space: str) -> str:
    """What the mover of a space last said of itself, in one line; empty where there never was one."""
    try:
        with open(f"{space}/{FILE}", "rb") as file:
            said = json.loads(file.read())
        parts = [f"{name} {used}{f' of {limit}' if limit is not None else ''}" for name, (used, limit) in
                 said["tiers"].items()]  # fmt: skip
        age = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(said["time_s"]))
        why = f", {said['failed']} failed ({said['why']})" if said["failed"] else ""
        trouble = f"; its last step could not be done: {said['trouble']}" if said.get("trouble") else ""
        return f"blob bytes by tier: {', '.join(parts)}; {said['moved']} moves{why}, {age}{trouble}"
    except FileNotFoundError:
        return ""
    except (ValueError, KeyError, TypeError) as e:
        return f"its {FILE} file cannot be read ({e}); the next step of a mover writes it anew"


def _number(nbytes: float) -> int | None:
    return None if math.isinf(nbytes) else int(nbytes)


def _ref(key: Key) -> BlobRef:
    (ref,) = refs_from_bytes(key)
    return ref
