"""Classes: one identity a session, old instances with their old class, every special kind."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("slots", """
        class S:
            __slots__ = ("u", "w")
        class T(S):
            __slots__ = ("x",)
        t = T(); t.u = [1]; t.x = t.u
        # %%
        t.x.append(2)
        # %%
        print(t.u, hasattr(t, "w"), hasattr(t, "__dict__"), isinstance(t, S))
        # %%
        t.other = 1
    """),
    program("redefinition with old instances alive", """
        class A:
            def hi(self): return "old"
        a = A(); Old = A
        # %%
        class A:
            def hi(self): return "new"
        # %%
        print(a.hi(), A().hi(), isinstance(a, A), isinstance(a, Old), type(a) is Old)
        # %%
        a.__class__ = A; a.hi()
    """),
    program("inheritance and super over cells", """
        class A:
            log = []
            def hi(self): self.log.append("A"); return "A"
        # %%
        class B(A):
            def hi(self): return super().hi() + "B"
        # %%
        class C(B):
            def hi(self): return super().hi() + "C"
        c = C()
        # %%
        print(c.hi(), C.__mro__, A.log, B in A.__subclasses__())
    """),
    program("class patched after its instances", """
        class P: pass
        class Q(P): kind = "q"
        q = Q()
        # %%
        P.double = lambda self, x: x * 2 + bonus
        Q.kind = "patched"
        # %%
        bonus = 1
        print(q.double(4), q.kind, vars(q))
        # %%
        del Q.kind; q.kind
    """),
    program("dataclass", """
        from dataclasses import asdict, astuple, dataclass, field, fields, replace
        @dataclass(order=True)
        class Item:
            name: str
            tags: list = field(default_factory=list, compare=False)
            price: float = 0.0
        i = Item("a")
        # %%
        i.tags.append("new"); j = replace(i, price=2.5)
        # %%
        i, j, i < j
        # %%
        print(asdict(j), astuple(i), [f.name for f in fields(Item)], i == Item("a"), j.tags is i.tags)
    """),
    program("frozen dataclass with slots", """
        from dataclasses import dataclass
        @dataclass(frozen=True, slots=True)
        class K:
            a: int
            b: tuple = ()
        table = {K(1): "one"}
        # %%
        table[K(1)], K(1) in table, K(2, (3,))
        # %%
        K(1).a = 2
        # %%
        print(table, hash(K(5)) == hash(K(5)))
    """),
    program("dataclass inheritance over cells", """
        from dataclasses import KW_ONLY, dataclass, field
        @dataclass
        class Base:
            x: int
            def __post_init__(self): self.twice = self.x * 2
        # %%
        @dataclass
        class Child(Base):
            _: KW_ONLY
            y: list = field(default_factory=lambda: [factory])
        # %%
        factory = "made"
        c = Child(3); c
        # %%
        print(c.twice, c.y, Child.__match_args__)
    """),
    program("enum", """
        import enum
        class Color(enum.Enum):
            RED = 1
            GREEN = 2
            ROT = 1
            @property
            def nice(self): return self.name.title()
        mine = Color.RED
        # %%
        mine is Color.RED, Color(2), Color["ROT"] is mine, list(Color)
        # %%
        print({mine: "x"}[Color.RED], mine.nice, Color.__members__, mine)
    """),
    program("flags, IntEnum and auto", """
        from enum import Flag, IntEnum, StrEnum, auto
        class Perm(Flag):
            R = auto()
            W = auto()
        class Level(IntEnum):
            LOW = 1
            HIGH = 10
        class Word(StrEnum):
            YES = auto()
        p = Perm.R
        # %%
        p |= Perm.W
        # %%
        print(p, Perm.W in p, Level.HIGH + 1, max(Level), Word.YES.upper(), ~p, p is (Perm.R | Perm.W))
    """),
    program("abstract base classes", """
        from abc import ABC, abstractmethod
        class Shape(ABC):
            @abstractmethod
            def area(self): ...
        # %%
        class Square(Shape):
            def __init__(self, s): self.s = s
            def area(self): return self.s ** 2
        shapes = [Square(2)]
        # %%
        Shape()
        # %%
        Shape.register(int)
        print(isinstance(3, Shape), [s.area() for s in shapes], Shape.__abstractmethods__)
    """),
    program("NamedTuple, TypedDict and generics", """
        from typing import Generic, NamedTuple, TypedDict, TypeVar
        T = TypeVar("T")
        class Pair(NamedTuple):
            left: int
            right: list = []
        class Box(Generic[T]):
            def __init__(self, v: T): self.v = v
        class Conf(TypedDict, total=False):
            a: int
        # %%
        pair, box = Pair(1), Box[int](2)
        pair.right.append("shared default")
        # %%
        print(Pair(5), Box[str], box.v, box.__orig_class__, Conf.__annotations__, Box.__parameters__[0] is T)
        # %%
        pair._asdict(), isinstance(pair, Pair)
    """),
    program("metaclass with a registry", """
        class Meta(type):
            made = []
            def __new__(mcls, name, bases, ns, **kw):
                mcls.made.append((name, sorted(kw)))
                return super().__new__(mcls, name, bases, ns)
            def __init__(cls, name, bases, ns, **kw): super().__init__(name, bases, ns)
            def __len__(cls): return len(cls.made)
        class A(metaclass=Meta): pass
        # %%
        class B(A, extra=1): pass
        # %%
        print(Meta.made, len(A), type(B) is Meta, isinstance(B, Meta))
    """),
    program("properties, static and class methods", """
        class Temp:
            unit = "C"
            def __init__(self, deg): self._deg = deg
            @property
            def deg(self): return self._deg * scale
            @deg.setter
            def deg(self, v): self._deg = v
            @classmethod
            def zero(cls): return cls(0)
            @staticmethod
            def where(): return scale
        t = Temp(5)
        # %%
        scale = 2
        t.deg, Temp.zero().deg, Temp.where()
        # %%
        t.deg = 50; scale = 1
        # %%
        print(t.deg, vars(t)); t.deg.foo
    """),
    program("descriptors and set_name", """
        class Positive:
            def __set_name__(self, owner, name): self.name = "_" + name; names.append(name)
            def __get__(self, obj, owner=None): return self if obj is None else getattr(obj, self.name)
            def __set__(self, obj, v):
                if v <= 0: raise ValueError(f"{self.name} must be positive, not {v}")
                setattr(obj, self.name, v)
        names = []
        # %%
        class Account:
            balance = Positive()
        acc = Account(); acc.balance = 5
        # %%
        acc.balance = -1
        # %%
        print(acc.balance, names, vars(acc), type(Account.balance) is Positive)
    """),
    program("init_subclass runs once", """
        class Plugin:
            known = {}
            def __init_subclass__(cls, /, key, **kw):
                super().__init_subclass__(**kw); cls.known[key] = cls
        # %%
        class Csv(Plugin, key="csv"): pass
        # %%
        class Json(Plugin, key="json"): pass
        # %%
        print(list(Plugin.known), Plugin.known["csv"] is Csv, Plugin.known["json"]() is not None)
    """),
    program("getsource of a class", """
        import inspect
        # %%
        class Tool:
            "A tool."
            def use(self):
                return "used"
        # %%
        print(inspect.getsource(Tool), inspect.getsource(Tool.use))
        # %%
        inspect.getdoc(Tool), Tool.__module__, Tool.__qualname__, repr(Tool)
    """),
    program("bound methods and callables", """
        class C:
            def __init__(self): self.n = 0
            def up(self, by=1): self.n += by; return self.n
            def __call__(self, x): return x + self.n
        c = C(); up = c.up; todo = [c.up, c]
        # %%
        up(); todo[0](5)
        # %%
        print(c.n, todo[1](10), up.__self__ is c, up == c.up)
    """),
    program("classes made in functions", """
        def make(n):
            class Local:
                value = n
                def get(self): return self.value + plus
            return Local
        A, B = make(1), make(2)
        a = A()
        # %%
        plus = 10
        a.get(), B().get(), A is B, A.__qualname__
        # %%
        A.value = 100; print(a.get(), type(a) is A)
    """),
    program("cached_property and getattr", """
        import functools
        ran = []
        class Lazy:
            @functools.cached_property
            def heavy(self): ran.append(1); return [1, 2]
            def __getattr__(self, name):
                if name.startswith("_"): raise AttributeError(name)
                return name.upper()
        lazy = Lazy()
        # %%
        lazy.heavy.append(3)
        # %%
        print(lazy.heavy, ran, lazy.abc); del lazy.heavy
        # %%
        lazy.heavy, ran
    """),
    program("subclasses of builtins", """
        class Stack(list):
            def push(self, x): self.append(x); return self
        class Auto(dict):
            def __missing__(self, key): self[key] = Auto(); return self[key]
        class Cents(int):
            def __repr__(self): return f"{self // 100}.{self % 100:02}"
        s, d, m = Stack([1]), Auto(), Cents(1234); s.label = "top"
        # %%
        s.push(2).push(3); d["a"]["b"] = 1
        # %%
        s, d, m, s.label
        # %%
        print(type(d["a"]) is Auto, isinstance(m, int), m + 1, s.pop())
    """),
    program("instances that refer to each other", """
        class Node:
            def __init__(self, name, parent=None):
                self.name, self.parent, self.kids = name, parent, []
                if parent: parent.kids.append(self)
            def path(self): return (self.parent.path() if self.parent else "") + "/" + self.name
        root = Node("root"); leaf = Node("leaf", Node("mid", root))
        # %%
        root.name = "top"; Node("second", root)
        # %%
        print(leaf.path(), [k.path() for k in root.kids], leaf.parent.parent is root)
    """),
    program("eq, hash and sorting", """
        import functools
        @functools.total_ordering
        class Ver:
            def __init__(self, s): self.t = tuple(map(int, s.split(".")))
            def __eq__(self, o): return self.t == o.t
            def __lt__(self, o): return self.t < o.t
            def __hash__(self): return hash(self.t)
            def __repr__(self): return ".".join(map(str, self.t))
        known = {Ver("1.2"): "a"}; vs = [Ver("2.0"), Ver("1.10")]
        # %%
        known[Ver("1.2")] = "b"; vs.append(Ver("1.9")); vs.sort()
        # %%
        known, vs, max(vs) >= vs[0]
    """),
)  # fmt: skip
