"""Context managers and operator overloading."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("context manager class", """
        class Tx:
            def __init__(self): self.log = []
            def __enter__(self): self.log.append("in"); return self
            def __exit__(self, kind, e, tb): self.log.append(kind and kind.__name__); return kind is KeyError
        tx = Tx()
        # %%
        with tx as t: t.log.append("body")
        # %%
        with tx: raise KeyError("swallowed")
        # %%
        with tx: raise ValueError("passes")
        # %%
        print(tx.log, t is tx)
    """),
    program("contextmanager function", """
        from contextlib import contextmanager
        depth = 0
        @contextmanager
        def deeper():
            global depth
            depth += 1
            try: yield depth
            finally: depth -= 1
        # %%
        with deeper() as d, deeper() as e: inside = (d, e, depth)
        # %%
        print(inside, depth)
        # %%
        with deeper(): 1 / 0
        # %%
        depth
    """),
    program("ExitStack and suppress", """
        from contextlib import ExitStack, closing, nullcontext, suppress
        order = []
        # %%
        with ExitStack() as stack:
            stack.callback(order.append, "first"); stack.callback(order.append, "second")
        del stack
        # %%
        with suppress(ZeroDivisionError): order.append(1 / 0)
        with nullcontext([1]) as kept: kept.append(2)
        # %%
        order, kept
    """),
    program("arithmetic", """
        class V:
            def __init__(self, *xs): self.xs = list(xs)
            def __add__(self, o): return V(*(a + b for a, b in zip(self.xs, o.xs)))
            def __iadd__(self, o): self.xs = [a + b for a, b in zip(self.xs, o.xs)]; return self
            def __mul__(self, k): return V(*(a * k for a in self.xs))
            __rmul__ = __mul__
            def __matmul__(self, o): return sum(a * b for a, b in zip(self.xs, o.xs))
            def __neg__(self): return self * -1
            def __repr__(self): return f"V{tuple(self.xs)}"
        v, w = V(1, 2), V(3, 4); same = v
        # %%
        v + w, 2 * v, v @ w, -w
        # %%
        v += w
        # %%
        print(v, same, v is same, V.__rmul__ is V.__mul__)
    """),
    program("containers by protocol", """
        class Ring:
            def __init__(self, items): self.items = list(items)
            def __len__(self): return len(self.items)
            def __getitem__(self, i): return self.items[i] if isinstance(i, slice) else self.items[i % len(self)]
            def __setitem__(self, i, v): self.items[i % len(self)] = v
            def __delitem__(self, i): del self.items[i % len(self)]
            def __contains__(self, x): return x in self.items
            def __iter__(self): return iter(self.items)
            def __bool__(self): return bool(self.items)
        ring = Ring("abc")
        # %%
        ring[4] = "B"; del ring[5]
        # %%
        list(ring), ring[-1], "B" in ring, ring[0:1], len(ring), bool(Ring([]))
    """),
    program("comparison, call, format and index", """
        class N:
            def __init__(self, n): self.n = n
            def __eq__(self, o): return isinstance(o, N) and self.n == o.n
            def __lt__(self, o): return self.n < o.n
            def __index__(self): return self.n
            def __call__(self, *a): self.n += sum(a); return self
            def __format__(self, spec): return f"<{self.n:{spec}}>"
            def __repr__(self): return f"N({self.n})"
            __hash__ = None
        a, b = N(2), N(1)
        # %%
        a(3)(1); sorted([a, b]), [10, 20][b]
        # %%
        print(f"{a:03}", a == N(6), hex(a))
        # %%
        {a: 1}
    """),
    program("attribute hooks", """
        class Rec:
            def __init__(self): object.__setattr__(self, "data", {})
            def __getattr__(self, k):
                if k.startswith("__") or k == "data": raise AttributeError(k)
                return self.data.get(k, "unset")
            def __setattr__(self, k, v): self.data[k] = v
            def __delattr__(self, k): del self.data[k]
            def __dir__(self): return sorted(self.data)
        rec = Rec()
        # %%
        rec.a = [1]; rec.b = 2
        # %%
        rec.a.append(3); del rec.b
        # %%
        print(rec.a, rec.b, dir(rec), vars(rec))
    """),
    program("attributes that lead to another object's", """
        class Wrapper:
            def __init__(self, inner): self.inner = inner
            def __getattr__(self, name): return getattr(self.inner, name)
        class Anything:
            def __getattr__(self, name): return name
        wrapped, anything = Wrapper([1]), Anything()
        twice = Wrapper(wrapped); mine = vars(wrapped)
        # %%
        wrapped.append(2); wrapped.index(2), anything.hello, twice.inner is wrapped, mine is vars(wrapped)
        # %%
        from tqdm import tqdm
        bar = tqdm([1, 2], disable=True); total = sum(bar)
        with open("log.txt", "w") as log: quiet = tqdm(total=3, file=log); quiet.close()
        # %%
        print(wrapped.inner, twice.count(2), anything.x, mine["inner"] is wrapped.inner, total, bar.n, quiet.total)
    """),
    program("code that runs while a value is loaded", """
        import math
        SALT = 3
        def mix(n): return n * SALT + math.floor(0.5)
        class Key:
            def __init__(self, n): self.n = n
            def __hash__(self): return mix(self.n)
            def __eq__(self, other): return same(self, other)
            def __setstate__(self, state): self.n = settle(state["n"])
        def same(a, b): return a.n == b.n
        def settle(n): return LIMITS["least"] + n
        LIMITS = {"least": 0}
        table, some = {Key(1): "one", Key(2): "two"}, {Key(3)}
        # %%
        table[Key(2)]
        # %%
        print(Key(3) in some, Key(4) in some, [key.n for key in table])
        # %%
        SALT = 5; some = {Key(3), Key(3)}
        # %%
        len(some), Key(3) in some
    """),
)  # fmt: skip
