"""Live lattices: a variable that many tasks write at once, and that is the join of all that they wrote.

    best = Live(Min())
    best.merge(0.93)         # joins; from any cell, task or thread
    best.value               # reads like the lattice in it

Theory of operation
- A lattice value does not change; a `Live` holds one and replaces it by its join with each delta. It never goes down,
  so the order of writes does not matter and none is lost.
- A `Live` has an identity that goes along with it to other processes. What is joined into one object of an identity is
  for all of them.
- In a task of a `%%parallel` cell an *outlet* takes what is written, and brings what other tasks wrote; it is looked at
  when a `Live` is touched. That of a call of an `Executor` takes only. Elsewhere there is none, and whoever hears of
  joins calls `take`, or `join`.
"""

from __future__ import annotations

import contextvars
import functools
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from kvs.lattices import Lattice, lattice_type
from lambdakernel.errors import LambdaKernelError

_PER_WRITER = frozenset({"g_counter", "pn_counter", "average"})
"""Tags of what a writer adds to in an entry of its own. A task counts from nothing in its entry: a second attempt that
does the same as the first writes the same entry, which joins to once."""


class NotLive(LambdaKernelError):
    """What was given is no lattice; nothing was joined."""


class Outlet(Protocol):
    """Where a task's `Live` values meet those of others."""

    task: str
    """Names the task, the same in each attempt."""
    attempt: int
    is_task: bool
    """Whether this process is a task of a `%%parallel` cell, which hears of others while it runs."""

    def wrote(self, uid: str, delta: Lattice) -> None:
        """`delta` is new here. Called without a lock."""

    def look(self) -> None:
        """Hand over to `take` what others wrote, if there is something."""

    def wait(self, seconds: float) -> None:
        """Until there may be something from others, at most so long."""


class Live:
    """A variable that holds a lattice and joins what is written into it. `docs/parallel.md` is the guide.

    Everything that the lattice has can be asked of this: `best.value`, `words.size()`, `len(words)`, `scores["ada"]`.
    Methods that make deltas write: `words.add("a")`, `visits.increment()` (who counts, and a clock, are filled in), and
    say whether they changed it. `lattice` is the value as it is now, which does not change any more.

    Equal only to itself. From any thread.

    Raises:
        NotLive: `lattice` is none.
    """

    __slots__ = ("__weakref__", "_began", "_lattice", "_uid")
    _lattice: Any
    _uid: str
    _began: Any

    def __init__(self, lattice: Lattice | Live) -> None:
        if isinstance(lattice, Live):
            lattice = lattice.lattice
        if not isinstance(lattice, Lattice):
            raise NotLive(
                f"a Live holds a lattice, and this is a {type(lattice).__name__}. Choose how it joins: Live(Max()),"
                " Live(Min()), Live(GrowSet()), Live(Map()), Live(GCounter()), ... (see docs/lattices.md)."
            )
        self._begin(lattice, os.urandom(8).hex(), None)

    def _begin(self, lattice: Lattice, uid: str, began: Lattice | None) -> None:
        self._lattice, self._uid, self._began = lattice, uid, began
        _here.add(self)

    # -- reading

    @property
    def lattice(self) -> Any:
        """The lattice value as it is now."""
        if (outlet := _here.outlet) is not None:
            outlet.look()
        return self._lattice

    def wait(self, until: Callable[[Any], bool], timeout_s: float) -> bool:
        """Sleep until `until(lattice)`, and say whether it came about within `timeout_s` seconds.

        Ask for something that stays true once it is true, as "at least ten" does. In the notebook, only a background
        job or another thread can bring it about.
        """
        end = time.monotonic() + timeout_s
        while not until(self.lattice):
            left = end - time.monotonic()
            if left <= 0:
                return False
            if (outlet := _here.outlet) is not None:
                outlet.wait(left)
            else:
                _here.wait(self, until, left)
        return True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"a Live has no attribute {name!r}")
        method = getattr(type(self._lattice), name, None)
        declaration = getattr(method, "__declaration__", None)
        if declaration is None or declaration.kind != "mutator":
            return getattr(self.lattice, name)

        def write(*args: Any, **named: Any) -> bool:
            return self._write(name, args, named)

        write.__name__, write.__doc__ = name, method.__doc__
        return write

    def __dir__(self) -> list[str]:
        theirs = [name for name in dir(self._lattice) if not name.startswith("_")]
        return sorted({*object.__dir__(self), *theirs})

    def __len__(self) -> int:
        return len(self.lattice)

    def __bool__(self) -> bool:
        return bool(self.lattice)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.lattice)

    def __contains__(self, thing: object) -> bool:
        return thing in self.lattice

    def __getitem__(self, key: Any) -> Any:
        return self.lattice[key]

    def __repr__(self) -> str:
        return f"Live({self.lattice!r})"

    # -- writing

    def merge(self, *args: Any) -> bool:
        """Join a lattice of this type, or what makes one (`best.merge(0.93)` for a `Max`); whether it changed anything.

        With two arguments, `Map.merge(key, value)`.

        Raises:
            LatticeMismatch: it is of another type. OutsideDomain: a lattice cannot hold it. Nothing was joined.
        """
        if len(args) != 1:
            return self._write("merge", args, {})
        given = args[0].lattice if isinstance(args[0], Live) else args[0]
        delta = given if isinstance(given, Lattice) else type(self._lattice)(_plain(given))
        return self._join(delta)

    def __ior__(self, other: Any) -> Self:
        self.merge(other)
        return self

    def _write(self, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> bool:
        with _here.lock:
            kind = type(self._lattice)
            method = getattr(kind, name)
            if kind.tag in _PER_WRITER and _here.outlet is not None:
                key = (self._uid, _here.writer())
                own = _here.own.get(key)
                own = kind.bottom() if own is None else own
                delta = method(own, *_filled(method, own, map(_plain, args)), **named)
                _here.own[key] = own.join(delta)
            else:
                delta = method(self._lattice, *_filled(method, self._lattice, map(_plain, args)), **named)
            changed = self._joined(delta)
        if changed:
            self._tell(delta)
        return changed

    def _join(self, delta: Lattice) -> bool:
        with _here.lock:
            changed = self._joined(delta)
        if changed:
            self._tell(delta)
        return changed

    def _joined(self, delta: Lattice) -> bool:
        """Under the lock."""
        if delta.leq(self._lattice):
            return False
        self._lattice = self._lattice.join(delta)
        if _here.sleepers:
            _here.news.notify_all()
        return True

    def _tell(self, delta: Lattice) -> None:
        outlet = _here.outlet
        if outlet is not None and self._began is not None:
            outlet.wrote(self._uid, delta)

    # -- moving

    def __reduce__(self) -> tuple[Any, ...]:
        return (restored, (type(self._lattice), self._lattice.encode(), self._uid))

    def __copy__(self) -> Live:
        """One of its own, which others do not write."""
        return Live(self.lattice)

    def __deepcopy__(self, memo: dict[int, Any]) -> Live:
        return Live(self.lattice)


def restored(kind: type[Lattice], data: bytes, uid: str) -> Live:
    """A `Live` that comes from elsewhere."""
    lattice_type(kind.tag)(kind)  # a class of the notebook is new to this process
    lattice = kind.decode(data)
    if _here.adopting.get() and (known := _here.find(uid)):
        take(uid, lattice)
        return known[0]
    made: Live = Live.__new__(Live)
    made._begin(lattice, uid, lattice if _here.outlet is not None else None)
    return made


# -- for those who carry joins


def attach(outlet: Outlet | None) -> None:
    """From now on this process is a task whose `Live` values write to `outlet`, and began as they are. If it was one
    before, they are again what they came with, and it counts under another name."""
    _here.outlet = outlet
    _here.forget_writer()
    for live in _here.all() if outlet is not None else ():
        if live._began is None:
            live._began = live._lattice
        else:
            live._lattice = live._began


@contextmanager
def adopting() -> Iterator[None]:
    """Inside, a `Live` that comes from another process and is here already is that object, joined with what came."""
    token = _here.adopting.set(True)
    try:
        yield
    finally:
        _here.adopting.reset(token)


def messages() -> int:
    """How many messages about live lattices this process has exchanged with its tasks, both ways, since it began."""
    return _here.messages


def count_message() -> None:
    with _here.lock:
        _here.messages += 1


def in_task() -> bool:
    """Whether this process is a task of a `%%parallel` cell."""
    return _here.outlet is not None and _here.outlet.is_task


def state(live: Live) -> tuple[str, Lattice]:
    """Its identity, and its value as it is now."""
    return live._uid, live._lattice


def take(uid: str, delta: Lattice) -> bool:
    """Join what others wrote into each object of that identity; whether this process has one.

    Raises:
        LatticeMismatch: they are of another type.
    """
    with _here.lock:
        found = _here.find(uid)
        for live in found:
            live._joined(delta)
    return bool(found)


def join(uid: str, delta: Lattice) -> bool:
    """As `take`, for what a process wrote that this one started: whoever this one writes to is told, too.

    Raises:
        LatticeMismatch: they are of another type.
    """
    found = _here.find(uid)
    for live in found:
        live._join(delta)
    return bool(found)


def outlet() -> Outlet | None:
    """Where `Live` values of this process write to."""
    return _here.outlet


@contextmanager
def as_begun() -> Iterator[None]:
    """Inside, each `Live` that came to this task has the value that it came with: it may be joined into, and that is no
    change of the notebook's variable in place."""
    with _here.lock:
        moved = [(live, live._lattice) for live in _here.all() if live._began is not None]
        try:
            for live, _ in moved:
                live._lattice = live._began
            yield
        finally:
            for live, lattice in moved:
                live._lattice = lattice


class _Here:
    """The `Live` objects of this process, and who writes. One lock, held for a join."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.adopting = contextvars.ContextVar("adopting", default=False)
        self.sleepers = self.messages = 0
        self.outlet: Outlet | None = None
        self.own: dict[tuple[str, str], Any] = {}
        """By identity and writer: what that writer has written itself."""
        self._lives: dict[str, weakref.WeakSet[Live]] = {}
        self._name = (0, "")

    def add(self, live: Live) -> None:
        with self.lock:
            if len(self._lives) % 256 == 255:
                self._lives = {uid: lives for uid, lives in self._lives.items() if lives}
            self._lives.setdefault(live._uid, weakref.WeakSet()).add(live)

    def find(self, uid: str) -> list[Live]:
        return list(self._lives.get(uid, ()))

    def all(self) -> list[Live]:
        return [live for lives in list(self._lives.values()) for live in lives]

    def wait(self, live: Live, until: Callable[[Any], bool], seconds: float) -> None:
        with self.lock:
            if not until(live._lattice):  # nothing came since it was asked
                self.sleepers += 1
                try:
                    self.news.wait(seconds)
                finally:
                    self.sleepers -= 1

    def writer(self) -> str:
        """The name under which this process counts. A process that a task forks counts for itself."""
        pid, (known, name) = os.getpid(), self._name
        if known != pid:
            name = self.outlet.task if self.outlet is not None and not known else os.urandom(6).hex()
            self._name = (pid, name)
        return name

    def forget_writer(self) -> None:
        self._name = (0, "")
        self.own.clear()

    def replica(self) -> int:
        """The same where a replica is a number: one of its own for each attempt, since a dot names one write."""
        attempt = self.outlet.attempt if self.outlet is not None else 0
        digest = hashlib.blake2b(f"{self.writer()}#{attempt}".encode(), digest_size=6)
        return int.from_bytes(digest.digest())

    def reset_after_fork(self) -> None:
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.sleepers = 0


def _plain(value: Any) -> Any:
    """A number as libraries compute it (`numpy.float64`) as Python's own, which a lattice can hold."""
    is_number = type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0
    return value.item() if is_number else value


_here = _Here()
os.register_at_fork(after_in_child=_here.reset_after_fork)


def _filled(mutator: Any, base: Any, args: Iterable[Any]) -> Iterator[Any]:
    """`args` with what a writer need not say: who it is, and when."""
    given = iter(args)
    for name in _parameters(mutator):
        if name == "replica":
            yield _here.writer()
        elif name == "replica: int":
            yield _here.replica()
        elif name in ("clock", "hlc"):
            yield max((time.time_ns() // 1_000_000) << 16, getattr(base, "clock", 0) + 1)
        elif name == "counter":
            yield 1  # the clock of a writer grows with each write, so its counter need not
        else:
            try:
                yield next(given)
            except StopIteration:
                return
    yield from given


@functools.lru_cache(maxsize=256)
def _parameters(mutator: Any) -> tuple[str, ...]:
    """Those that are given by place, but for self, up to the last that a writer need not say."""
    code = mutator.__code__
    names = code.co_varnames[1 : code.co_argcount]
    is_number = mutator.__annotations__.get("replica") in ("int", int)
    named = tuple("replica: int" if name == "replica" and is_number else name for name in names)
    filled = [at for at, name in enumerate(names, 1) if name in ("replica", "clock", "hlc", "counter")]
    return named[: max(filled, default=0)]
