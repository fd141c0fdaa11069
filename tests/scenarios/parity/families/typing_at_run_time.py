"""Typing: aliases, protocols, new types, type variables, annotations at run time."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("protocol and NewType", """
        from typing import NewType, Protocol, runtime_checkable
        @runtime_checkable
        class Go(Protocol):
            def go(self) -> int: ...
        Id = NewType("Id", int)
        # %%
        class Car:
            def go(self): return 1
        # %%
        print(isinstance(Car(), Go), isinstance(3, Go), Id(5), Id.__name__, Id.__supertype__)
    """),
    program("aliases and type variables", """
        from typing import Annotated, Callable, Literal, Optional, TypeVar, Union, get_args, get_type_hints
        T = TypeVar("T", bound=int); Mode = Literal["r", "w"]
        Maybe = Optional[list[T]]; Fn = Callable[[int], T]; A = Annotated[int, "meta", [1]]
        # %%
        Maybe, Fn, Mode, A, get_args(Mode)
        # %%
        def f(a: "Later", b: Maybe = None) -> Mode: ...
        class Later: pass
        # %%
        print(get_type_hints(f)["a"] is Later, get_type_hints(f)["b"] == Maybe, Maybe[bool], T.__bound__)
    """),
    program("generic with several parameters", """
        from typing import Generic, TypeVar, overload
        K, V = TypeVar("K"), TypeVar("V")
        class Table(Generic[K, V]):
            def __init__(self): self.d = {}
            def put(self, k, v): self.d[k] = v; return self
        class Names(Table[str, V]): pass
        # %%
        t = Names[int]().put("a", 1)
        # %%
        print(t.d, Names.__orig_bases__, Names.__parameters__ == (V,), Table[int, str], isinstance(t, Table))
    """),
    program("parameter specifications", """
        from typing import Callable, ParamSpec
        P = ParamSpec("P")
        Fn = Callable[P, int]
        # %%
        P, Fn
        # %%
        print(Fn[[str]], P.args, Fn.__parameters__ == (P,))
    """),
    program("annotations that are texts", """
        from __future__ import annotations
        from dataclasses import dataclass, field, replace
        from typing import Generic, TypeVar, get_type_hints
        T = TypeVar("T")
        class Unit: pass
        @dataclass(order=True)
        class Box(Generic[T]):
            value: T
            unit: Unit | None = None
            tags: list[str] = field(default_factory=list)
        def weigh(box: Box[int], by: Unit = None) -> Unit: ...
        box = Box[int](3); other = replace(box, value=4)
        # %%
        print(get_type_hints(Box)["value"] is T, get_type_hints(weigh)["by"] == Unit, box < other)
        # %%
        print(get_type_hints(Box), Box[str].__args__, box.tags is other.tags)
    """),
)  # fmt: skip
