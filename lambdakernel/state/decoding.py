"""Bytes back to objects: what `codec` wrote, with the classes and the namespace of this process."""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lambdakernel.errors import ValueDamaged
from lambdakernel.state import hooks
from lambdakernel.state.classes import ClassBook, build_class, build_enum
from lambdakernel.state.fixtures import ORIGINAL


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

    def _fixture(self, name: str) -> Any:
        if name.startswith(ORIGINAL):
            return self._book.originals.get(name.removeprefix(ORIGINAL))
        return self._book.fixtures.get(name)

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
    "fixture": Decoder._fixture,
    "make_class": Decoder._make_class,
    "make_enum": Decoder._make_enum,
}


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
        ValueDamaged: it cannot be loaded here; `what` names it.
    """
    decoder = Decoder(head, buffers, live, book, class_of, name_of)
    with damaged_if_it_raises(what):
        try:
            return decoder.load()
        finally:
            decoder.memo.clear()  # it holds the decoder's own methods: a cycle that would keep what was loaded alive


@contextmanager
def damaged_if_it_raises(what: str) -> Iterator[None]:
    """Raises:
    ValueDamaged: in place of whatever loading raises. An interrupt is that too: it may come from the value's own
        code, and must not keep its name from being bound anew.
    """
    try:
        yield
    except ValueDamaged:
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as e:
        raise ValueDamaged(what, f"loading it raised {type(e).__name__}: {e}") from e
