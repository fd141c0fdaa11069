"""Items of the live namespace to bytes, with what is learnt on the way; or why they cannot be."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple

from lambdakernel.state import edits, flat, graph, orders
from lambdakernel.state.arrays import array_identity, is_plain_array, memory_of, owners
from lambdakernel.state.buffers import Buffers
from lambdakernel.state.classes import ClassBook, is_notebook_class
from lambdakernel.state.codec import Dump, dump, unmarked
from lambdakernel.state.frames import frame_token
from lambdakernel.state.here import Item, Live
from lambdakernel.state.residents import culprit
from lambdakernel.state.sharing import Memo, mutable_ids
from lambdakernel.state.snapshots import ComparableSnapshot, Places
from lambdakernel.state.specials import CannotMove
from lambdakernel.state.texts import as_texts
from lambdakernel.state.units import Lost

_RETRIES = 3
_DENSE = 8
"""References for each object up to which a graph is one of objects, and not of numbers and texts."""
_LARGE = 1_000
"""Objects in one name from which a look at it with others starts from what is known of it."""


class Look(NamedTuple):
    """What some items look like."""

    snapshot: ComparableSnapshot
    ids: Set[int]
    """Addresses of what two names could share in them."""


class Dumper:
    """See the module."""

    def __init__(self, live: dict[str, Any], book: ClassBook, worker: str, buffers: Buffers) -> None:
        self._live = live
        self._book = book
        self._worker = worker
        self._buffers = buffers
        self._memos: list[Memo] = []
        self._memory: set[int] = set()
        """Addresses of what the arrays look into that the last snapshot met."""
        self._looks: dict[tuple[Item, ...], Look] = {}
        """Of this detection."""

    def forget(self) -> None:
        """Addresses that dumps gave need not stay valid any more."""
        self._memos.clear()
        self._looks.clear()

    def look_each_time(self) -> None:
        """Code of a value may run from here on: a look at a buffer is good for itself alone."""
        self._buffers.look_each_time()

    def attempt(
        self, items: tuple[Item, ...], marks: Sequence[bytes] = (), *, numbers: bool = False
    ) -> tuple[Dump, Set[int]] | None:
        """The dump of `items` as one value; None if something in it cannot be encoded."""
        try:
            return self.dump(items, marks, numbers=numbers)
        except (Exception, RecursionError):
            return None

    def dump(
        self, items: tuple[Item, ...], marks: Sequence[bytes] = (), *, numbers: bool = False
    ) -> tuple[Dump, Set[int]]:
        """`items` as one value, and the addresses of what two names could share in it. With `numbers`, it is the base
        of edits from now on if that is worth it: it changed before, and may again. So it is where objects are many: one
        of them is likely to change, or to get another name, and to number them costs little beside their dump."""
        look, ids = self.look(items) or (None, frozenset[int]())
        is_base = look is not None and (numbers or look.objects * _DENSE > look.references)
        sets = orders.of(look, [self._live[key] for _, key in items]) if look is not None else []
        if look is not None and not sets and (flatly := self._flatly(items, look)) is not None:
            found, _ = flatly
            found.snapshot, found.ids = look, ids
            found.base = edits.number(found, {}, look) if is_base else None
            return found, ids
        found, memo = self.encode(
            items,
            marks,
            self._buffers.mark,
            lambda found: look is None or (is_base and edits.is_worth(found)),
            has_shared_dict=look is None or look.has_shared_dict,
            sets=sets,
        )
        found.snapshot = look
        self._memos.append(memo)
        found.ids = mutable_ids(memo, self._live) if look is None or found.met_fixtures else ids
        if look is not None and is_base and memo and not found.met_fixtures:
            found.base = edits.number(found, memo, look)
        return found, found.ids

    def _flatly(self, items: tuple[Item, ...], look: ComparableSnapshot) -> tuple[Dump, Memo] | None:
        """The dump that `look` writes itself, if it can: a pickler says what is wrong, if something is."""
        try:
            return flat.dump(look, [key for _, key in items], self._live, self._book)
        except (Exception, RecursionError):
            return None

    def look(self, items: tuple[Item, ...]) -> Look | None:
        """What names look like now; None with a class among `items`: snapshots compare classes by identity.

        A second look in one detection costs a check: whatever was dumped meanwhile can have changed something.
        """
        if not graph.FAST or any(kind == "c" for kind, _ in items):
            return None
        try:
            roots = [self._live[key] for _, key in items]  # one may be gone since
            known = self._looks.get(items)
            if known is not None and known.snapshot.is_unchanged(roots):
                return known
            found = self._look_with_more(items, roots) or self._whole_look(roots)
        except Exception:
            return None
        if found is not None:
            self._looks[items] = found
        return found

    def _whole_look(self, roots: Sequence[object]) -> Look | None:
        self._memory = set()
        snapshot = graph.take(roots, self._live, leaf=self.token)
        if snapshot is None:
            return None
        return Look(snapshot, snapshot.shared() | self._memory if self._memory else snapshot.shared())

    def _look_with_more(self, items: tuple[Item, ...], roots: Sequence[object]) -> Look | None:
        """From a look at one of `items` that is large, if the others bring little that it has not."""
        looks = [self._looks[item,] for item in items if (item,) in self._looks] if len(items) > 1 else []
        largest = max(looks, key=lambda look: len(look.ids), default=None)
        if largest is None or len(largest.ids) < _LARGE:
            return None
        amended = graph.amend(largest.snapshot, roots, self._live)
        if amended is None:
            return None
        snapshot, difference = amended
        return Look(snapshot, (largest.ids - set(difference.shared_gone)) | set(difference.shared_added))

    def ids_now(self, unit: Live) -> Set[int] | None:
        """Addresses at which `unit` has objects now; None if that cannot be said."""
        look = self.look(unit.items)
        if look is None and (found := self.attempt(unit.items)) is not None:
            return found[1]
        return look.ids if look is not None else None

    def token(self, obj: Any) -> object | None:
        """What an array or a part of a frame is compared by: where and what it is, and what stands for the memory that
        it looks into."""
        return self._token(obj, self._buffers.mark)

    def _token(self, obj: Any, mark: Callable[[memoryview], bytes]) -> object | None:
        if (found := frame_token(obj, mark)) is not None:
            self._memory |= found[1]
            return found[0]
        memory = memory_of(obj)
        self._memory.update(map(id, (obj, *owners(obj))))
        return None if memory is None else (array_identity(obj), mark(memory))

    def encode_again(self, items: tuple[Item, ...]) -> tuple[Dump, Memo]:
        """As they were dumped for a commit, without a look at their buffers."""
        if not graph.FAST or any(kind == "c" for kind, _ in items):
            return self.encode(items)
        roots = [self._live[key] for _, key in items]
        look = graph.take(roots, self._live, leaf=lambda obj: self._token(obj, unmarked))
        sets = orders.of(look, roots) if look is not None else []
        if look is not None and not sets and (flatly := self._flatly(items, look)) is not None:
            return flatly
        return self.encode(items, sets=sets)

    def encode(
        self,
        items: tuple[Item, ...],
        marks: Sequence[bytes] = (),
        mark: Callable[[memoryview], bytes] = unmarked,
        is_memo_wanted: Callable[[Dump], bool] = lambda _: True,
        *,
        has_shared_dict: bool = True,
        sets: list[Places] | None = None,
    ) -> tuple[Dump, Memo]:
        """`items` as one value, and the memo of its dump. Changes nothing here."""
        classes = {key: cls for kind, key in items if kind == "c" and (cls := self._book.get(key)) is not None}
        names = {key: self._live[key] for kind, key in items if kind == "n"}
        if classes or not all(map(is_plain_array, names.values())):  # to dump an array runs no code of its own
            self.look_each_time()
        texts = {key: texts for key, value in names.items() if (texts := as_texts(value))} if len(items) == 1 else {}
        for attempt in range(_RETRIES):
            try:
                value, roots = {"classes": classes, "names": {**names, **texts}}, tuple(classes.values())
                orders.put(value, sets or [])
                found, memo = dump(value, self._live, self._book, roots, marks, mark, is_memo_wanted, has_shared_dict)
                break
            except RuntimeError as e:  # another thread changed it meanwhile
                if isinstance(e, RecursionError) or attempt == _RETRIES - 1 or "during iteration" not in str(e):
                    raise
        for own in (value["names"], classes, *orders.parts(sets or [])):
            memo.pop(id(own), None)
        for key, instead in texts.items():
            if (met := memo.pop(id(instead), None)) is not None:
                memo[id(names[key])] = (met[0], names[key])
        return found, memo

    def why(self, items: tuple[Item, ...]) -> Lost:
        """Why these items cannot be encoded, and where the reason sits."""
        kind, key = items[0]
        value = self._live.get(key) if kind == "n" else self._book.get(key)
        try:
            self.dump(items)
            reason = "unstable"
        except (Exception, RecursionError) as e:
            reason = str(e) if isinstance(e, CannotMove) else f"not picklable ({type(e).__name__}: {str(e)[:200]})"
        path, part = culprit(key, value, self._cannot)
        return Lost(reason, path, type(part).__name__, self._worker)

    def _cannot(self, obj: Any) -> bool:
        if issubclass(type(obj), type) and not is_notebook_class(obj):
            return False
        try:
            dump(obj, self._live, self._book)
        except (Exception, RecursionError):
            return True
        return False
