"""What classes may ask for while they are made, and how their objects copy, compare and call."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("virtual subclasses", """
        import abc
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
        # %%
        @Shape.register
        class Square:
            def __init__(self, side): self.side = side
            def area(self): return self.side ** 2
        square = Square(2)
        # %%
        isinstance(square, Shape), issubclass(Square, Shape), Shape.__abstractmethods__
        # %%
        Shape()
    """),
    program("copy by registered functions", """
        import copy, copyreg
        class Point:
            def __init__(self, x, log=()): self.x = x; self.log = [*log]
        # %%
        def reduce(p): asked.append(p.x); return Point, (p.x, p.log)
        asked = []
        copyreg.pickle(Point, reduce)
        # %%
        import pickle
        p = Point(1); p.log.append("x")
        # %%
        asked.clear(); q = copy.copy(p); print(q.x, q.log, q.log is p.log, asked)
        # %%
        print(copyreg.dispatch_table.pop(Point) is reduce, copy.copy(q).log is q.log)
    """),
    program("flags", """
        import enum
        class Perm(enum.Flag):
            R = enum.auto(); W = enum.auto(); X = enum.auto()
            ALL = R | W | X
        mine = Perm.R | Perm.X
        # %%
        mine, Perm.R in mine, ~mine, mine is (Perm.X | Perm.R)
        # %%
        mine |= Perm.W
        # %%
        print(mine is Perm.ALL, list(mine), Perm(5) is (Perm.R | Perm.X), Perm["W"])
    """),
    program("named tuples of typing", """
        import typing
        class Row(typing.NamedTuple):
            name: str
            size: int = 3
            @property
            def double(self): return self.size * 2
        row = Row("a")
        # %%
        row._replace(size=5), row.double, Row._field_defaults
        # %%
        name, size = row; print(name, size, row._asdict(), isinstance(row, Row), Row.__annotations__)
    """),
    program("dataclass with slots and fields", """
        from dataclasses import asdict, dataclass, field, fields, replace
        @dataclass(slots=True)
        class Node:
            name: str
            kids: list = field(default_factory=list)
            parent: "Node" = field(default=None, repr=False)
        # %%
        root = Node("root"); leaf = Node("leaf", parent=root); root.kids.append(leaf)
        # %%
        leaf.parent is root, hasattr(root, "__dict__"), [f.name for f in fields(Node)]
        # %%
        print(root, replace(leaf, name="other").parent is root, asdict(Node("x")))
        # %%
        root.extra = 1
    """),
    program("subclass hooks with arguments", """
        class Plugin:
            found = {}
            def __init_subclass__(cls, /, key, **kwargs):
                super().__init_subclass__(**kwargs); Plugin.found[key] = cls
        # %%
        class A(Plugin, key="a"): pass
        # %%
        class B(A, key="b"): pass
        # %%
        print({k: v.__name__ for k, v in Plugin.found.items()}, Plugin.found["a"] is A, B.__mro__[1] is A)
    """),
    program("descriptors that know their name", """
        class Positive:
            def __set_name__(self, owner, name): self.name = name; self.owner = owner.__name__
            def __get__(self, obj, kind=None): return self if obj is None else obj.__dict__[self.name]
            def __set__(self, obj, value):
                if value <= 0: raise ValueError(f"{self.owner}.{self.name} must be positive")
                obj.__dict__[self.name] = value
        class Box:
            width = Positive(); height = Positive()
        # %%
        box = Box(); box.width = 3
        # %%
        box.width, Box.height.name
        # %%
        box.height = -1
    """),
    program("bound methods compared", """
        class Counter:
            def __init__(self): self.n = 0
            def up(self): self.n += 1; return self.n
            @classmethod
            def make(cls): return cls()
        c = Counter(); up = c.up; make = Counter.make
        # %%
        up(), up == c.up, up.__self__ is c, up.__func__ is Counter.up
        # %%
        c.up(); d = make()
        # %%
        print(up(), c.n, type(d) is Counter, make.__self__ is Counter)
    """),
    program("partial functions and methods", """
        import functools
        calls = []
        def note(kind, text, *, loud=False): calls.append((kind, text.upper() if loud else text))
        class Log:
            def write(self, level, text): calls.append((level, text))
            warn = functools.partialmethod(write, "warn")
            @functools.cached_property
            def big(self): calls.append("made"); return [0] * 3
        info = functools.partial(note, "info", loud=True)
        # %%
        info("one"); log = Log(); log.warn("two"); log.big.append(1)
        # %%
        log.big, info.func is note, info.keywords
        # %%
        print(calls, log.__dict__)
    """),
    program("single dispatch over cells", """
        from functools import singledispatch
        class A: pass
        @singledispatch
        def show(value): return "any"
        # %%
        @show.register
        def _(value: int): return "int"
        @show.register(A)
        def show_a(value): return "A"
        # %%
        show(1), show(A()), show("x"), show.dispatch(A) is show_a
        # %%
        class B(A): pass
        print(show(B()), show(True), len(show.registry))
    """),
    program("overloaded equality and hash", """
        class Key:
            def __init__(self, k): self.k = k
            def __eq__(self, o): return isinstance(o, Key) and self.k == o.k
            def __hash__(self): return hash(self.k)
            def __repr__(self): return f"Key({self.k})"
        table = {Key("a"): 1}; group = {Key("a"), Key("b")}
        # %%
        table[Key("a")] += 1; group.add(Key("b"))
        # %%
        table, len(group), Key("b") in group
        # %%
        print(table[Key("a")], sorted(k.k for k in group))
    """),
)  # fmt: skip
