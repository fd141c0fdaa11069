"""What notebooks of everyday do, a little of many things in each."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("local module", """
        import sys, os
        text = "count = 0\\nclass K:\\n    def hi(self): return 'hi'\\n"
        text += "def bump():\\n    global count\\n    count += 1\\n"
        with open("mymod_zz.py", "w") as file:
            file.write(text)
        sys.path.insert(0, os.getcwd())
        # %%
        from mymod_zz import K, bump
        import mymod_zz as mm
        k = K()
        # %%
        k.hi(), isinstance(k, mm.K), K is mm.K
        # %%
        sys.path.remove(os.getcwd())
    """),
    program("display handles", """
        from IPython.display import display, HTML, Markdown
        h = display("a", display_id="zz1"); m = Markdown("# x"); html = HTML("<b>x</b>")
        # %%
        h.update("b"); h
        # %%
        m, html.data
    """),
    program("styler", """
        import pandas as pd
        st = pd.DataFrame({"a": [1, 2]}).style.format("{:.1f}").set_caption("cap")
        # %%
        len(st.to_html()) > 10, st.caption
    """),
    program("mock objects", """
        from unittest.mock import Mock, MagicMock, patch
        m = Mock(return_value=3); m(1)
        # %%
        m(2); m.call_count, m.call_args_list
    """),
    program("lru cache method and property", """
        from functools import lru_cache, cached_property, singledispatch, wraps, partialmethod
        class A:
            def __init__(self): self.n = 0
            @cached_property
            def big(self): self.n += 1; return [self.n]
            @lru_cache(maxsize=None)
            def f(self, x): self.n += 1; return x * 2
            half = partialmethod(f, 2)
        a = A(); a.big; a.f(3)
        @singledispatch
        def show(x): return "obj"
        @show.register
        def _(x: int): return "int"
        # %%
        a.f(3), a.n, a.big, a.half()
        # %%
        @show.register(list)
        def _(x): return "list"
        # %%
        show(1), show([]), show(2.0), a.f.cache_info().hits
    """),
    program("contextmanagers", """
        from contextlib import contextmanager, ExitStack, suppress
        log = []
        @contextmanager
        def tag(n):
            log.append("<" + n)
            yield n
            log.append(">" + n)
        # %%
        with tag("a") as t, tag("b"): log.append(t)
        # %%
        log, suppress(ValueError)
    """),
    program("matplotlib across cells", """
        import matplotlib.pyplot as plt
        fig, axs = plt.subplots(1, 2); line, = axs[0].plot([1, 2]); plt.close(fig)
        # %%
        line.set_ydata([3, 4]); axs[0].lines[0] is line, axs[1].figure is fig
        # %%
        from matplotlib.animation import FuncAnimation
        cm = plt.get_cmap("viridis"); norm = plt.Normalize(0, 1)
        # %%
        cm(norm(.5)), fig.axes[0] is axs[0]
    """),
    program("async gens and queues", """
        import asyncio
        q = asyncio.Queue(); await q.put(1); ev = asyncio.Event(); lock = asyncio.Lock(); sem = asyncio.Semaphore(2)
        # %%
        await q.put(2); ev.set(); q.qsize()
        # %%
        async with lock: print(await q.get(), await q.get(), ev.is_set())
    """),
    program("walrus comps and star", """
        if (n := 10) > 5: big = [y := n, y ** 2]
        first, *rest = range(4)
        # %%
        [last := i for i in rest]; n, big, y, last, first
        # %%
        match rest:
            case [a, *others]: print(a, others)
    """),
    program("class hierarchy with super and registry", """
        class Meta(type):
            reg = {}
            def __new__(m, n, b, d):
                c = super().__new__(m, n, b, d); m.reg[n] = c; return c
        class Base(metaclass=Meta):
            def __init_subclass__(cls, **k): cls.k = k; super().__init_subclass__()
            def hi(self): return "base"
        class Kid(Base, x=1):
            def hi(self): return "kid " + super().hi()
        kid = Kid()
        # %%
        kid.hi(), Kid.k, list(Meta.reg), Meta.reg["Kid"] is Kid, type(kid) is Kid
        # %%
        class Third(Kid, y=2): pass
        # %%
        Third().hi(), Third.k, list(Meta.reg), Base.__subclasses__(), Kid.__subclasses__()
    """),
    program("operators and iter state", """
        import itertools as it
        c = it.count(3); next(c); cy = it.cycle("ab"); next(cy); ch = it.chain([1], [2, 3]); next(ch)
        z = zip([1, 2], "xy"); next(z); e = enumerate("pq"); next(e); m = map(str, [1, 2]); next(m)
        f = filter(None, [0, 1, 2]); next(f); r = reversed([1, 2, 3]); next(r)
        isl = it.islice([1, 2, 3], 1, None); next(isl); dit = iter({"a": 1, "b": 2}); next(dit)
        sit = iter("xyz"); next(sit); rng = iter(range(5)); next(rng); acc = it.accumulate([1, 2, 3]); next(acc)
        # %%
        [next(each) for each in (c, cy, ch, z, e, m, f, r, isl, dit, sit, rng, acc)]
        # %%
        next(c), next(cy), next(ch), list(r), list(rng), next(acc)
    """),
    program("exceptions kept", """
        try:
            1 / 0
        except ZeroDivisionError as e:
            err = e; err.add_note("n")
        # %%
        err, err.__notes__, err.__traceback__ is not None
        # %%
        raise ValueError("x") from err
        # %%
        import traceback
        "".join(traceback.format_exception(err)).count("ZeroDivisionError")
    """),
    program("properties and slots", """
        class P:
            __slots__ = ("a", "__dict__")
            def __init__(self): self.a = [1]; self.b = self.a
            @property
            def c(self): return self.a
            @c.setter
            def c(self, v): self.a = v
        p = P(); q = [p.a]
        # %%
        p.c.append(2); q[0] is p.a, p.b is p.a
        # %%
        p.c = 5; p.a, p.b, q
    """),
)  # fmt: skip
