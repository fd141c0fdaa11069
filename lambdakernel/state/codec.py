"""Objects to bytes and back, exactly: functions on the live namespace, classes by identity, buffers out of band.

The encoder is cloudpickle's pickler (protocol 5) with a reducer for what must not be treated as a value. Large
buffers are handed out instead of copied. After a dump the pickler's memo says which objects it met: that is how shared
structure is found. Measured on object graphs, the Python-level reducer costs about 2.5 times plain C pickling.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import types
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import xxhash
from cloudpickle import cloudpickle as cp

from lambdakernel.state import attempts, bounds, hooks, reach
from lambdakernel.state.arrays import (
    ByValue,
    Owners,
    is_object_array,
    is_plain_array,
    reduce_array,
    reduce_by_value,
    reduce_object_array,
)
from lambdakernel.state.bases import Base
from lambdakernel.state.blocks import Blocks
from lambdakernel.state.caches import CACHE, entries_of, reduce_lru_cache
from lambdakernel.state.classes import (
    ClassBook,
    is_notebook_class,
    kind_of,
    makes_itself,
    reduce_class,
    reduce_without_new,
)
from lambdakernel.state.columns import Columns
from lambdakernel.state.derived import reduce_derived
from lambdakernel.state.dicts import answers_any_name, reduce_with_dict, reduce_with_fill
from lambdakernel.state.exceptions import reduce_exception
from lambdakernel.state.finished import reduce_finished
from lambdakernel.state.fixtures import KEPT_ELSEWHERE, ORIGINAL, has_no_content, has_plain_content
from lambdakernel.state.functions import LiveNamespace, marker_for, reduce_function, reduce_module, value_of_module
from lambdakernel.state.imported import is_by_name
from lambdakernel.state.registers import reducer_for
from lambdakernel.state.sharing import Memo
from lambdakernel.state.snapshots import ComparableSnapshot
from lambdakernel.state.specials import REDUCERS, CannotMove, why_living
from lambdakernel.state.tracebacks import reduce_traceback

_TRIED = 1000
"""Entries of a cache that are tried one by one when some of them cannot move; older ones are forgotten."""
OUT_OF_BAND = 65536
"""Bytes from which a buffer is kept out of the stream: below, a blob of its own costs more than a copy."""


@dataclass(slots=True)
class Dump:
    """One unit as bytes, with what was learnt while dumping it."""

    head: bytes
    buffers: list[memoryview]
    fingerprint: tuple[bytes, ...]
    """Hash of the head, then the mark of each buffer: equal means unchanged."""
    refs: frozenset[str]
    """Global names that functions and classes in it may use."""
    dynamic: bool
    """Some code in it can use any name."""
    uses: frozenset[str]
    """Identities of the classes that it refers to."""
    ids: Set[int] = field(repr=False, default=frozenset())
    """Addresses of the mutable objects in it, for finding shared structure; valid while they live."""
    snapshot: ComparableSnapshot | None = field(repr=False, compare=False, default=None)
    """What its values looked like just before; None if they are not understood."""
    met_fixtures: bool = False
    """It met objects that are no part of the value, and may share some with it."""
    numbers: int = 0
    """Objects in the memo, if that was wanted."""
    base: Base | None = field(repr=False, compare=False, default=None)
    """That it may be from now on; or, if there are edits of that, the base that `head` is the last edit of."""

    @property
    def is_edit(self) -> bool:
        return self.base is not None and bool(self.base.edits)

    @property
    def nbytes(self) -> int:
        return len(self.head) + sum(b.nbytes for b in self.buffers)


class Encoder(cp.Pickler):
    """One dump. `roots` are the classes whose definition is wanted; every other one is referred to."""

    def __init__(
        self,
        file: io.BytesIO,
        live: dict[str, Any],
        book: ClassBook,
        roots: Sequence[type],
        *,
        has_shared_dict: bool = True,
    ) -> None:
        self.buffers: list[memoryview] = []
        # cloudpickle's is a chain of two in Python, which the pickler would ask for every object
        table: Any = {**copyreg.dispatch_table, **cp.Pickler._dispatch_table}
        self.dispatch_table = table
        # no method of its own: that would be a cycle, which keeps what it met alive until it is collected
        super().__init__(file, protocol=5, buffer_callback=functools.partial(_keep_in_band, self.buffers))
        self._live = live
        self._book = book
        self._roots = {id(cls) for cls in roots}
        self._marker = LiveNamespace()
        self._markers: dict[int, object] = {}
        self._owners = Owners()
        self._blocks = Blocks()
        self._columns = Columns()
        self._fixtures, self._of_modules = book.fixtures, book.of_modules
        self._originals = book.originals.names
        self.fixtures: list[object] = []
        """Those that were met."""
        self._living: dict[type, str] = {}
        self._plain: set[type] = set()
        """Types that pickle as they do by themselves."""
        self.refs: set[str] = set()
        self.uses: set[str] = set()
        self.dynamic = False
        self._is_trial = False
        self.last: object = None
        """Whose own code runs, if any does."""
        self.empty: frozenset[int] = frozenset()
        """Addresses of instances whose attributes follow later."""
        self.made: list[object] = []
        """What was met and is no part of the value."""
        self._has_shared_dict = has_shared_dict

    def reducer_override(self, obj: Any) -> Any:
        self.last = obj
        kind = type(obj)
        if self._originals and (original := self._originals.get(id(obj))):
            self.fixtures.append(obj)
            return (hooks.fixture, (ORIGINAL + original,))
        if self.empty and id(obj) in self.empty:
            return (copyreg.__newobj__, (kind,))  # type: ignore[attr-defined]
        if kind in self._plain:
            return NotImplemented if not self._has_shared_dict else reduce_with_dict(obj)
        reducer = REDUCERS.get(kind)
        if reducer is not None:
            return reducer(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if issubclass(kind, types.ModuleType):
            return (hooks.main_module, ()) if vars(obj) is self._live else reduce_module(obj)
        if issubclass(kind, type):
            return self._class(obj)
        if kind is CACHE:
            return self._cached(obj)
        if kind is types.TracebackType:
            return reduce_traceback(obj, self._live, self._marker)
        if is_plain_array(obj):
            return reduce_array(obj, self._owners)
        if is_object_array(obj):
            return reduce_object_array(obj)
        if kind is ByValue:
            return reduce_by_value(obj.array)
        part = self._blocks.reduce(obj) or self._columns.reduce(obj) or reduce_derived(obj, self._owners)
        if part is not None:
            return part
        if kind in self._fixtures.kinds and (name := self._fixtures.name_of(obj)):
            self.fixtures.append(obj)
            return (hooks.fixture, (name,))
        if (place := self._of_modules.name_of(obj)) and (only_one := self._only_one(obj, place)) is not None:
            return only_one
        why = self._living.get(kind)
        if why is None:
            why = self._living[kind] = (
                bounds.why_stopped(kind) or self._book.untrue.get(kind_of(kind)) or why_living(kind)
            )
        if why:
            over = reduce_finished(obj) if why == why_living(kind) else None  # not what was seen to hang or to lie
            if over is None:
                raise CannotMove(obj, why)
            return over
        if issubclass(kind, BaseException):
            return reduce_exception(obj)
        reducer = reducer_for(kind)
        if reducer is not None:
            return reducer(obj)
        if makes_itself(kind):
            return reduce_with_dict(obj, reduce_without_new)
        if answers_any_name(kind):
            return reduce_with_dict(obj, reduce_with_fill)
        if kind.__module__ != "numpy" and kind not in self._fixtures.kinds and not self._of_modules.has_some(kind):
            self._plain.add(kind)  # what was asked above, but for arrays, has one answer for all objects of a type
        return reduce_with_dict(obj)

    def is_plain(self, obj: Any) -> bool:
        """Whether it, and each object of its type, is stored as its own `__reduce_ex__` says, whichever it is.

        Raises:
            CannotMove: it lives here only.
        """
        self.reducer_override(obj)
        kind = type(obj)
        return kind in self._plain and not self._book.originals.has_some(kind)

    def _only_one(self, obj: Any, place: tuple[str, str]) -> Any:
        """How a library's instance is stored by its name: with its content, if that is a few plain values, as the
        notebook may have changed them. None: it has another content, which nobody else keeps, and goes by value."""
        made = obj.__reduce_ex__(5)
        if type(obj).__module__ in KEPT_ELSEWHERE or has_no_content(made):
            self.fixtures.append(obj)
            return (value_of_module, place)
        return (value_of_module, place, made[2]) if has_plain_content(made) else None

    def _function(self, function: types.FunctionType) -> Any:
        globals_ = function.__globals__
        if globals_ is not self._live:
            if is_by_name(function):
                return NotImplemented
            marker = self._markers.get(id(globals_)) or self._markers.setdefault(id(globals_), marker_for(globals_))
            return reduce_function(function, marker)
        found = reach.of_code(function.__code__)
        self.refs |= found.names | found.hints | reach.of_annotations(function.__annotations__)
        self.dynamic |= found.dynamic
        return reduce_function(function, self._marker)

    def _class(self, cls: type) -> Any:
        if not is_notebook_class(cls):
            return NotImplemented if cls.__module__ != "builtins" else super().reducer_override(cls)
        uid = self._book.uid(cls)
        if id(cls) in self._roots:
            self.refs |= reach.of_annotations(vars(cls).get("__annotations__"))
            return reduce_class(cls, "".join(uid))  # an object of its own: a shared one would change the bytes
        self.uses.add(uid)
        return (hooks.class_by_uid, (uid,))

    def _cached(self, wrapper: Any) -> Any:
        """With what it remembers, but for what cannot move: a cache may forget."""
        entries = entries_of(wrapper)
        if entries and not self._is_trial and not self._can_move(entries):
            entries = [entry for entry in entries[-_TRIED:] if self._can_move([entry])]
        return reduce_lru_cache(wrapper, entries)

    def _can_move(self, obj: Any) -> bool:
        trial = Encoder(io.BytesIO(), self._live, self._book, ())
        trial._is_trial = True
        try:
            trial.dump(obj)
        except (Exception, RecursionError):
            return False
        return True


def _keep_in_band(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    raw = buffer.raw()
    if raw.nbytes < OUT_OF_BAND:
        return True
    buffers.append(raw)
    return False


def dump(
    obj: Any,
    live: dict[str, Any],
    book: ClassBook,
    roots: Sequence[type] = (),
    marks: Sequence[bytes] = (),
    mark: Callable[[memoryview], bytes] = xxhash.xxh3_128_digest,
    is_memo_wanted: Callable[[Dump], bool] = lambda _: True,
    has_shared_dict: bool = True,
    kind: type[Encoder] = Encoder,
) -> tuple[Dump, Memo]:
    """`obj` as bytes, and the memo of the dump, which keeps addresses valid while it is held.

    `marks` stand for the content of its buffers where they are known; else `mark` is asked for them. A memo that is not
    wanted is empty: a copy of it costs half of what a dump does. Then `obj` must be known not to reach `live`. Without
    `has_shared_dict`, nothing but its instance must refer to a `__dict__`.

    Raises:
        Exception: whatever an object's own reducer raises; `CannotMove` for one that lives here only, that is larger
            or takes longer than the bounds in force allow, or that is nested too deeply.
    """
    encoder, head = attempts.encode(
        obj, lambda file: kind(file, live, book, roots, has_shared_dict=has_shared_dict), live
    )
    if not marks or len(marks) != len(encoder.buffers):
        marks = [mark(buffer) for buffer in encoder.buffers]
    fingerprint = (xxhash.xxh3_128_digest(head), *marks)
    found = Dump(head, encoder.buffers, fingerprint, *refs_of(encoder))
    apart = [*encoder.fixtures, *encoder.made]  # a fixture is every worker's: who refers to one shares nothing
    found.met_fixtures = bool(encoder.fixtures)
    memo: Memo = encoder.memo.copy() if encoder.fixtures or is_memo_wanted(found) else {}
    found.numbers = len(memo)
    for each in apart:
        memo.pop(id(each), None)
    if id(live) in memo:
        raise CannotMove(live, "the namespace itself")
    return found, memo


def refs_of(encoder: Encoder) -> tuple[frozenset[str], bool, frozenset[str]]:
    """Global names that code in what it dumped may use, whether that is any, and identities of the classes met."""
    refs = frozenset(n for n in encoder.refs if not n.startswith("__") or n == "__annotations__")
    return refs, encoder.dynamic, frozenset(encoder.uses)


def unmarked(_: memoryview) -> bytes:
    """The mark of a buffer that nobody will compare."""
    return b""
