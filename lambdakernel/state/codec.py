"""Objects to bytes and back, exactly: functions on the live namespace, classes by identity, buffers out of band.

The encoder is cloudpickle's pickler (protocol 5) with a reducer for what must not be treated as a value. Large
buffers are handed out instead of copied. After a dump the pickler's memo says which objects it met: that is how shared
structure is found. Measured on object graphs, the Python-level reducer costs about 2.5 times plain C pickling.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import xxhash
from cloudpickle import cloudpickle as cp

from lambdakernel.errors import ValueDamaged
from lambdakernel.state import hooks, reach
from lambdakernel.state.arrays import (
    ByValue,
    Owners,
    block_type,
    is_object_array,
    is_plain_array,
    owners,
    reduce_array,
    reduce_block,
    reduce_by_value,
    reduce_object_array,
)
from lambdakernel.state.caches import CACHE, entries_of, reduce_lru_cache
from lambdakernel.state.classes import (
    ClassBook,
    build_class,
    build_enum,
    is_notebook_class,
    kind_of,
    makes_itself,
    reduce_class,
    reduce_without_new,
)
from lambdakernel.state.functions import LiveNamespace, ModuleGlobals, OtherGlobals, marker_for, reduce_function
from lambdakernel.state.graph import Snapshot
from lambdakernel.state.specials import REDUCERS, CannotMove, reduce_exception, why_living

_TRIED = 1000
"""Entries of a cache that are tried one by one when some of them cannot move; older ones are forgotten."""
Memo = dict[int, tuple[int, Any]]
"""What a dump met: by address, when, and the object."""
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
    ids: frozenset[int] = field(repr=False, default=frozenset())
    """Addresses of the mutable objects in it, for finding shared structure; valid while they live."""
    snapshot: Snapshot | None = field(repr=False, compare=False, default=None)
    """What its values looked like just before; None if they are not understood."""

    @property
    def nbytes(self) -> int:
        return len(self.head) + sum(b.nbytes for b in self.buffers)


class Encoder(cp.Pickler):
    """One dump. `roots` are the classes whose definition is wanted; every other one is referred to."""

    def __init__(self, file: io.BytesIO, live: dict[str, Any], book: ClassBook, roots: Sequence[type]) -> None:
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
        self._block = block_type()
        self._living: dict[type, str] = {}
        self._plain: set[type] = set()
        """Types that pickle as they do by themselves."""
        self.refs: set[str] = set()
        self.uses: set[str] = set()
        self.dynamic = False
        self._is_trial = False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self._plain:
            return NotImplemented
        reducer = REDUCERS.get(kind)
        if reducer is not None:
            return reducer(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if issubclass(kind, types.ModuleType):
            return (hooks.main_module, ()) if vars(obj) is self._live else NotImplemented
        if issubclass(kind, type):
            return self._class(obj)
        if kind is CACHE:
            return self._cached(obj)
        if is_plain_array(obj):
            return reduce_array(obj, self._owners)
        if is_object_array(obj):
            return reduce_object_array(obj)
        if kind is ByValue:
            return reduce_by_value(obj.array)
        if self._block is not None and issubclass(kind, self._block):
            return reduce_block(obj)
        why = self._living.get(kind)
        if why is None:
            why = self._living[kind] = self._book.untrue.get(kind_of(kind)) or why_living(kind)
        if why:
            raise CannotMove(obj, why)
        if issubclass(kind, BaseException):
            return reduce_exception(obj)
        if makes_itself(kind):
            return reduce_without_new(obj)
        if kind.__module__ != "numpy":
            self._plain.add(kind)  # what was asked above, but for arrays, has one answer for all objects of a type
        return NotImplemented

    def _function(self, function: types.FunctionType) -> Any:
        globals_ = function.__globals__
        if globals_ is not self._live:
            if cp._should_pickle_by_reference(function):
                return NotImplemented
            marker = self._markers.get(id(globals_)) or self._markers.setdefault(id(globals_), marker_for(globals_))
            return reduce_function(function, marker)
        found = reach.of_code(function.__code__)
        self.refs |= found.names | found.hints
        self.dynamic |= found.dynamic
        return reduce_function(function, self._marker)

    def _class(self, cls: type) -> Any:
        if not is_notebook_class(cls):
            return NotImplemented if cls.__module__ != "builtins" else super().reducer_override(cls)
        uid = self._book.uid(cls)
        if id(cls) in self._roots:
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
) -> tuple[Dump, Memo]:
    """`obj` as bytes, and the memo of the dump, which keeps addresses valid while it is held.

    `marks` stand for the content of its buffers where they are known; else `mark` is asked for them.

    Raises:
        Exception: whatever an object's own reducer raises; `CannotMove` for one that lives here only.
    """
    file = io.BytesIO()
    encoder = Encoder(file, live, book, roots)
    encoder.dump(obj)
    memo: Memo = encoder.memo.copy()
    head = file.getvalue()
    if id(live) in memo:
        raise CannotMove(live, "the namespace itself")
    if not marks or len(marks) != len(encoder.buffers):
        marks = [mark(buffer) for buffer in encoder.buffers]
    fingerprint = (xxhash.xxh3_128_digest(head), *marks)
    refs = frozenset(n for n in encoder.refs if not n.startswith("__") or n == "__annotations__")
    found = Dump(head, encoder.buffers, fingerprint, refs, encoder.dynamic, frozenset(encoder.uses))
    return found, memo


def unmarked(_: memoryview) -> bytes:
    """The mark of a buffer that nobody will compare."""
    return b""


_IMMUTABLE: tuple[type, ...] = (
    str, bytes, int, float, complex, bool, type(None), tuple, frozenset, range, slice, type, type(...),
    types.ModuleType, types.BuiltinFunctionType, types.CodeType, LiveNamespace, ModuleGlobals, OtherGlobals, ByValue,
)  # fmt: skip
_IMMUTABLE_MODULES = frozenset(
    {"datetime", "decimal", "fractions", "uuid", "pathlib", "re", "zoneinfo", "enum", "typing", "dataclasses"}
)


def mutable_ids(memo: Memo, live: dict[str, Any]) -> frozenset[int]:
    """Addresses in `memo` of objects that two names could share and one could change.

    Objects that the dump made itself (a state that `__reduce__` returned) are told by their count of references.
    """
    objects = [entry[1] for entry in memo.values()]
    kinds = list(map(type, objects))
    sharing = {kind: _sharing(kind) for kind in set(kinds)}
    able = {kind for kind, how in sharing.items() if how is not _Sharing.NONE}
    counts = map(sys.getrefcount, objects)  # by what is written in C: this sees every object of a dump
    found = {at for at, kind, count in zip(memo, kinds, counts, strict=True) if kind in able and count > _TEMPORARY}
    special = {kind for kind in able if sharing[kind] is not _Sharing.PLAIN}
    for obj in [obj for obj, kind in zip(objects, kinds, strict=True) if kind in special] if special else ():
        if sharing[type(obj)] is _Sharing.ARRAY:
            found.update(map(id, owners(obj)))
        elif obj.__globals__ is not live:
            found.discard(id(obj))
    return frozenset(found)


class _Sharing(enum.Enum):
    """What two names that hold one object of a type have in common."""

    NONE = "nothing that could change"
    PLAIN = "the object"
    FUNCTION = "the object, if it is the notebook's"
    ARRAY = "the object, and the memory that it looks into"


def _sharing(kind: type) -> _Sharing:
    np = sys.modules.get("numpy")
    immutable = (*_IMMUTABLE, *((np.generic, np.dtype) if np is not None else ()))
    if issubclass(kind, immutable) or kind.__module__ in _IMMUTABLE_MODULES:
        return _Sharing.NONE
    if issubclass(kind, types.FunctionType):
        return _Sharing.FUNCTION
    return _Sharing.ARRAY if np is not None and kind is np.ndarray else _Sharing.PLAIN


def _count_of_temporary() -> int:
    """References that an object has which nothing but a memo holds, counted as `mutable_ids` counts."""
    memo = {0: (0, object())}
    objects = [entry[1] for entry in memo.values()]
    return next(map(sys.getrefcount, objects))


class Decoder(pickle.Unpickler):
    """One load. `class_of` finds a class by its identity, loading its definition if need be."""

    def __init__(
        self,
        head: bytes,
        buffers: Sequence[Any],
        live: dict[str, Any],
        book: ClassBook,
        class_of: Callable[[str], type],
        name_of: Callable[[str], Any],
    ) -> None:
        super().__init__(io.BytesIO(head), buffers=buffers)
        self._live = live
        self._book = book
        self._class_of = class_of
        self._name_of = name_of

    def find_class(self, module: str, name: str) -> Any:
        if module == hooks.__name__:
            return _HOOKED[name].__get__(self)
        if module == "__main__":
            return self._name_of(name)
        return super().find_class(module, name)

    def _live_namespace(self) -> dict[str, Any]:
        return self._live

    def _main_module(self) -> types.ModuleType:
        return sys.modules["__main__"]

    def _class_by_uid(self, uid: str) -> type:
        return self._book.get(uid) or self._class_of(uid)

    def _make_class(self, uid: str, *arguments: Any) -> type:
        known = self._book.get(uid)
        if known is not None:
            return known
        cls = build_class(*arguments)
        self._book.learn(uid, cls)
        return cls

    def _make_enum(self, uid: str, *arguments: Any) -> type:
        known = self._book.get(uid)
        if known is not None:
            return known
        cls = build_enum(*arguments)
        self._book.learn(uid, cls)
        return cls


_HOOKED: dict[str, Any] = {
    "live_namespace": Decoder._live_namespace,
    "main_module": Decoder._main_module,
    "class_by_uid": Decoder._class_by_uid,
    "make_class": Decoder._make_class,
    "make_enum": Decoder._make_enum,
}

_TEMPORARY = _count_of_temporary()


def load(
    what: str,
    head: bytes,
    buffers: Sequence[Any],
    live: dict[str, Any],
    book: ClassBook,
    class_of: Callable[[str], type],
    name_of: Callable[[str], Any],
) -> Any:
    """The object in `head`.

    Raises:
        ValueDamaged: it cannot be loaded here; `what` names it. An interrupt while it loads is that too: it may come
            from the value's own code, and must not keep its name from being bound anew.
    """
    decoder = Decoder(head, buffers, live, book, class_of, name_of)
    try:
        return decoder.load()
    except ValueDamaged:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as e:
        raise ValueDamaged(what, f"loading it raised {type(e).__name__}: {e}") from e
    finally:
        decoder.memo.clear()  # it holds the decoder's own methods: a cycle that would keep every loaded object alive
