"""What is compared by identity or refers weakly, after a move."""

from __future__ import annotations

import gc
import re
import typing
import weakref
from pathlib import Path
from typing import Any

import pytest

from lambdakernel.state import Namespace
from lambdakernel.state.classes import ClassBook
from lambdakernel.state.codec import Dump, dump
from lambdakernel.state.decoding import load
from lambdakernel.state.shown import shown_after
from lambdakernel.state.specials import CannotMove
from tests.state.cold import Worker, in_child


def encoded(value: Any) -> Dump:
    return dump({"value": value}, {}, ClassBook())[0]


def decoded(found: Dump) -> Any:
    return load("a value", found.head, found.buffers, {}, ClassBook(), _unknown, _unknown)["value"]


def moved(value: Any) -> Any:
    return decoded(encoded(value))


def _unknown(name: str) -> Any:
    raise AssertionError(f"{name} was not to be asked for")


class Box:
    def __init__(self) -> None:
        self.hits: list[Any] = []

    def hit(self, *what: Any) -> None:
        self.hits.append(what)


class Liar(Box):
    """No attribute of it that has a plain name leads to itself, and an operator of it fails."""

    def __getattribute__(self, name: str) -> Any:
        return "a lie" if not name.startswith("__") else super().__getattribute__(name)

    def __ror__(self, other: Any) -> Any:
        raise AssertionError("no operator of it is to run")


# -- weak references


@pytest.mark.parametrize("kind", [Box, Liar])
def test_a_proxy_stands_for_the_object_beside_it(kind: type[Box]) -> None:
    box = kind()
    back, proxy = moved((box, weakref.proxy(box)))
    assert type(proxy) is weakref.ProxyType
    assert [weakref.ref(back)() is back, weakref.getweakrefcount(back)] == [True, 1]
    assert weakref.getweakrefs(back)[0] is proxy


def test_a_proxy_keeps_nothing_alive() -> None:
    box = Box()
    proxy = moved(weakref.proxy(box))
    gc.collect()
    with pytest.raises(ReferenceError):
        _ = proxy.hits


def test_a_proxy_of_what_is_gone_is_one_still() -> None:
    proxy = weakref.proxy(Box())
    with pytest.raises(ReferenceError):
        _ = moved(proxy).hits


def test_a_proxy_that_can_be_called_and_its_callback_move() -> None:
    def work(n: int) -> int:
        return n + 1

    told: list[Any] = []
    _, proxy, told_there = moved((work, weakref.proxy(work, told.append), told))
    assert type(proxy) is weakref.CallableProxyType
    del _
    gc.collect()
    assert len(told_there) == 1


def test_a_reference_moves_with_its_callback() -> None:
    box, log = Box(), Box()
    back, reference, there = moved((box, weakref.ref(box, log.hit), log))
    assert reference() is back
    del back
    gc.collect()
    assert reference() is None
    assert there.hits == [(reference,)]


def test_a_weak_method_calls_the_object_beside_it_and_lets_it_die() -> None:
    box, log = Box(), Box()
    back, method, there = moved((box, weakref.WeakMethod(box.hit, log.hit), log))
    method()("x")
    assert back.hits == [("x",)]
    assert method() == back.hit
    del back
    gc.collect()
    assert method() is None
    assert len(there.hits) == 1
    assert moved(method)() is None


# -- typing


def variables() -> list[Any]:
    return [
        typing.TypeVar("T", bound=int),  # type: ignore[misc]
        typing.TypeVar("K", int, str),  # type: ignore[misc]
        typing.TypeVar("V", covariant=True),  # type: ignore[misc]
        typing.ParamSpec("P"),  # type: ignore[misc]
        typing.TypeVarTuple("Ts"),  # type: ignore[misc]
        typing.NewType("Id", int),  # type: ignore[valid-newtype]
    ]


@pytest.mark.parametrize("at", range(6))
def test_one_that_a_cell_made_moves_by_value_with_one_identity(at: int) -> None:
    variable = variables()[at]
    variable.__module__ = "__main__"
    first, second = encoded(variable), encoded([variable])
    text, module = repr(variable), variable.__module__
    bound, constraints = (getattr(variable, name, None) for name in ("__bound__", "__constraints__"))
    del variable
    gc.collect()  # so that it is not simply found again
    back = decoded(first)
    assert (repr(back), back.__module__) == (text, module)
    assert (getattr(back, "__bound__", None), getattr(back, "__constraints__", None)) == (bound, constraints)
    assert decoded(second)[0] is back
    assert moved(back) is back


def test_one_of_a_library_is_found_there() -> None:
    assert moved(typing.AnyStr) is typing.AnyStr


def test_what_is_made_of_a_parameter_specification_keeps_to_it() -> None:
    p = typing.ParamSpec("p")  # type: ignore[misc]
    p.__module__ = "__main__"
    back, function, arguments = moved((p, typing.Callable[p, int], p.args))
    assert function.__parameters__ == (back,)
    assert arguments.__origin__ is back


# -- matches


@pytest.mark.parametrize(
    "match",
    [
        re.search(r"(?P<word>\w+)=(\d+)?", "  key=42"),
        re.compile(r"\w").search("abc", 1, 2),
        re.fullmatch(r"a|ab", "ab"),
        list(re.finditer(r"(?<=\d)b", "1b 2b"))[1],
        re.match(rb"x(y)?", b"xz"),
    ],
)
def test_a_match_is_found_again(match: re.Match[Any]) -> None:
    back = moved(match)
    assert (back.re, back.string, back.endpos) == (match.re, match.string, match.endpos)
    assert (back.regs, back.groupdict(), back.lastgroup) == (match.regs, match.groupdict(), match.lastgroup)


def test_a_match_in_memory_that_may_change_stays() -> None:
    with pytest.raises(CannotMove, match="not found again"):
        encoded(re.match(b"x", bytearray(b"x")))


# -- what `_` stands for


class InShell(Worker):
    """A worker whose shell has bound `_`, as IPython's does when it begins."""

    def __init__(self, store: Path) -> None:
        super().__init__(store)
        self.live["_"] = ""
        self.namespace = Namespace(self.live, self.replica, ignore=dict(self.live), worker="another")
        self.attached = self.namespace.attach()


def test_an_underscore_of_the_user_is_loaded_in_place_of_the_shells_own(tmp_path: Path) -> None:
    def shown(source: str) -> str:
        worker = InShell(tmp_path)
        text = worker.run(source).shown
        worker.close()
        return text

    in_child(lambda: shown("_ = [5]; other = _"))
    assert in_child(lambda: shown("print(1)")) == "1\n"
    assert in_child(lambda: shown("print(_, other is _); _ = ''")) == "[5] True\n"
    assert in_child(lambda: shown("print(repr(_), other)")) == "'' [5]\n"


@pytest.mark.parametrize(
    ("here", "before", "now"),
    [
        ((None, None, None), ("_2", "_1", ""), ("_2", "_1", "")),
        (("_3", None, None), ("_2", "_1", ""), ("_3", "_2", "_1")),
        (("_3", "_2", None), ("_2", "_1", ""), ("_3", "_2", "_1")),
        (("_2", None, None), ("_2", "_1", ""), ("_2", "_1", "")),
        (("", None, None), ("_2", "_1", ""), ("", "_1", "")),
        (("_5", "_4", "_3"), ("", "", ""), ("_5", "_4", "_3")),
        (("_9", None, None), ("_8", "gone", ""), ("_9", "_8", "")),
    ],
)
def test_what_was_shown_moves_on_by_what_is_new(here: Any, before: Any, now: Any) -> None:
    assert shown_after(here, before, lambda name: name != "gone") == now
