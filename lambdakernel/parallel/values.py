"""A task's view of its session, and values on their way between it and the notebook.

The only module here that knows how the state package encodes: a value becomes one parcel, with its large buffers out
of band.
"""

from __future__ import annotations

import ast
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import kvs
from lambdakernel import live as lives
from lambdakernel.parallel.asof import Inherited, reader
from lambdakernel.parallel.parcels import Parcel, Sealed
from lambdakernel.state import Cell, Namespace
from lambdakernel.state.ambient import PREFIX
from lambdakernel.state.bindings import NEVER, SHOWN, is_output

_ATOMS = (int, float, complex, bool, str, bytes, type(None), range)
_PLAIN = b"plain"
"""Before a pickle of atoms, for which nobody needs the session; other pickles begin with another byte."""
_WITHOUT_CODE = tuple(
    f"{kind} "
    for kind in (
        *("warnings", "sys.argv", "module", "logger", "figure", "colormap", "pandas", "class of pandas"),
        *("magic", "formatter", "hook", "set_custom_exc", "option"),  # of the shell, which a task has not
    )
)
"""Kinds of ambient state that are no code, or code that only those meet who name it."""
_OF_SHELL = ("ipython.", "sys.last_value", "magic ", "formatter ", "hook ", "set_custom_exc ", "option ")
"""How ambient state begins that is the shell's: no task has it."""


def to_parcel(namespace: Namespace, value: Any) -> Sealed:
    """A parcel that holds `value`; raises what pickling raises."""
    if is_plain(value):
        return _plain(value)
    dump = namespace.encode(value)
    return Sealed.of(dump.head, dump.buffers)


def is_plain(value: Any) -> bool:
    """Whether it is an atom or a tuple of some: immutable, and the same in every process."""
    return type(value) in _ATOMS or (type(value) is tuple and all(type(each) in _ATOMS for each in value))


def _plain(value: Any) -> Sealed:
    return Sealed.of(_PLAIN + pickle.dumps(value, protocol=5))


def from_parcel(namespace: Namespace, parcel: Parcel) -> Any:
    """The value in `parcel`; its large arrays are the parcel's memory.

    Raises:
        ValueDamaged: it cannot be loaded here.
    """
    head = bytes(parcel.head)
    if head.startswith(_PLAIN):
        return pickle.loads(head[len(_PLAIN) :])
    with lives.adopting():
        return namespace.decode(head, parcel.buffers)


def has_ambient_code(namespace: Namespace) -> bool:
    """Whether the notebook has left code where other code meets it without naming it: hooks, patches, handlers."""
    return not all(name.removeprefix(PREFIX).startswith(_WITHOUT_CODE) for name in namespace.held_names)


def surroundings(namespace: Namespace) -> frozenset[tuple[str, object]]:
    """Equal while the ambient state that a task takes over stays as it is."""
    found = namespace.surroundings()
    return frozenset(each for each in found if not each[0].removeprefix(PREFIX).startswith(_OF_SHELL))


def is_output_among(names: Iterable[str]) -> bool:
    """Whether one of them stands for what cells have shown."""
    return any(name in SHOWN or name in NEVER or is_output(name) for name in names)


def _sources(cells: Iterable[Cell]) -> Sequence[tuple[str, int, str]]:
    return [(cell.filename, cell.number, cell.source) for cell in cells if cell.filename]


def rehearse(store: str, session: str) -> None:
    """What a `TaskSession` does a first time in a process; nothing is attached or loaded.

    Raises:
        kvs.KvsError, OSError: the store cannot be read.
    """
    with reader(store, session) as replica:
        Namespace({}, replica, ignore={}, worker="a task").close()


class TaskSession:
    """The session as one task sees it: what was committed when the task began."""

    def __init__(self, store: str, session: str, live: dict[str, Any], moment: str = "") -> None:
        self._reader = Inherited(store, session, moment)
        self._replica = cast("kvs.Replica", self._reader)
        self._namespace = Namespace(live, self._replica, ignore=dict(live), worker="a task")
        self._live = live
        self._was_asked = False
        """Another namespace has asked the reader for news since ours did."""
        attached = self._namespace.attach()
        self.epoch: int = attached.epoch
        self.cells = _sources(attached.cells)
        """File name, number and text of each cell until then."""

    def start_over(self) -> None:
        """For another fan-out of the session: see what was committed until now."""
        by_other_means = self._reader.follow()
        self._namespace.start_over(anew=by_other_means or self._was_asked)
        self._was_asked = False
        self.epoch = self._namespace.current_epoch()

    def read_cells(self) -> None:
        """Let `cells` have all that there are now."""
        self.cells = _sources(self._namespace.cells())

    def prepare(self, tree: ast.Module, names: Iterable[str] = ()) -> None:
        """Load what the body reaches, and `names`, which the code of items may; raises for what cannot be had."""
        self._namespace.prepare(tree.body)
        if names:
            self._namespace.prepare_names(names)

    def settle(self) -> None:
        """Before this process is forked for tasks: they see what is seen now."""
        self._reader.settle()

    def after_fork(self) -> None:
        """In such a task."""
        self._namespace.after_fork()

    def encode(self, value: Any) -> Sealed:
        """The parcel of a result; with the definitions of classes that the body made."""
        if is_plain(value):
            return _plain(value)
        dump = self._namespace.encode_whole(value)
        return Sealed.of(dump.head, dump.buffers)

    def decode(self, parcel: Parcel) -> Any:
        return from_parcel(self._namespace, parcel)

    def mutated(self, except_names: Iterable[str]) -> list[str]:
        """Variables and classes of the notebook that the body reached and changed in place, `except_names` left out.

        A value may dump to other bytes merely because it was loaded (strings that became one). So a suspect is compared
        with itself as loaded a second time, not with the bytes in the store. Costs that load for suspects alone.
        """
        skip = set(except_names)
        names, classes = self._namespace.mutated(skip)
        classes = {uid: cls for uid, cls in classes.items() if _top(cls) not in skip}
        return self._confirmed(names, classes) if names or classes else []

    def _confirmed(self, names: Sequence[str], classes: Mapping[str, type]) -> list[str]:
        untouched: dict[str, Any] = {}
        self._was_asked = True
        fresh = Namespace(untouched, self._replica, ignore={}, worker="a task", ambient=())
        fresh.attach()
        fresh.load(names)

        def differs(before: Any, now: Any) -> bool:
            return self._differs(_fingerprint(fresh, before), now) and not self._is_same(fresh, before, now)

        found = [
            name
            for name in names
            if name not in untouched or name not in self._live or differs(untouched[name], self._live[name])
        ]
        for uid, cls in classes.items():
            before = fresh.class_of(uid, [_top(cls)])
            if before is None or differs(before, cls):
                found.append(cls.__qualname__)
        return found

    def prepare_item(self, item: Any) -> tuple[bytes, ...]:
        """Load what code in an item reaches; and its `fingerprint`."""
        return () if is_plain(item) else self._namespace.prepare_value(item)

    def fingerprint(self, item: Any) -> tuple[bytes, ...]:
        """Equal for an item that was not changed in between; costs a dump, but nothing for what is plain."""
        return _fingerprint(self._namespace, item)

    def item_changed(self, before: tuple[bytes, ...], item: Any, sent: Parcel) -> bool:
        """Whether the body changed `item` in place; `sent` is its parcel, unpacked once more."""
        return self._differs(before, item) and not self._is_same(self._namespace, self.decode(sent), item)

    def _is_same(self, namespace: Namespace, before: Any, value: Any) -> bool:
        """Whether they differ by caches alone: in a table, or what functions and properties of the notebook keep.
        `before` is of that namespace."""
        if _same_table(before, value):
            return True
        try:
            now = self._namespace.fingerprint_without_caches(value)
            return namespace.fingerprint_without_caches(before) == now
        except Exception:  # see `_differs`
            return False

    def _differs(self, before: tuple[bytes, ...], value: Any) -> bool:
        try:
            return self.fingerprint(value) != before
        except Exception:  # it could be encoded before the body ran: what keeps it from that now is a change
            return True


def _top(cls: type) -> str:
    """The name that the notebook has for a class, or for the one that it is defined in."""
    return cls.__qualname__.partition(".")[0]


def _fingerprint(namespace: Namespace, value: Any) -> tuple[bytes, ...]:
    return () if is_plain(value) else namespace.fingerprint(value)


def _same_table(one: Any, other: Any) -> bool:
    """Whether both are equal tables of pandas: reading one fills caches in it, which then travel with it."""
    pandas = sys.modules.get("pandas")
    if pandas is None or type(one) is not type(other) or not isinstance(one, (pandas.DataFrame, pandas.Series)):
        return False
    return bool(one.equals(other) and one.index.names == other.index.names and one.attrs == other.attrs)
