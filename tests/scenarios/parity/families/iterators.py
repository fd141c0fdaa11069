"""itertools, functools and iterators: they go on where they were."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("iterators over containers", """
        items = [1, 2, 3, 4]; it = iter(items); back = reversed(items); d = iter({"a": 1, "b": 2}.items())
        # %%
        next(it), next(back), next(d)
        # %%
        items.append(5)
        # %%
        list(it), list(back), list(d)
    """),
    program("enumerate, zip, map and filter", """
        names = ["x", "y", "z"]
        e, z = enumerate(names, 1), zip(names, (1, 2, 3)); m, f = map(str.upper, names), filter(None, [0, 1, 2])
        # %%
        next(e), next(z), next(m), next(f)
        # %%
        print(list(e), list(z), list(m), list(f))
    """),
    program("itertools", """
        import itertools as it
        c, cy, ch = it.count(10, 5), it.cycle("ab"), it.chain([1], [2, 3])
        # %%
        next(c), next(cy), next(ch)
        # %%
        next(c), next(cy), next(cy), list(ch)
        # %%
        print(list(it.islice(c, 2)), list(it.islice(cy, 3)), list(it.accumulate([1, 2, 3])))
    """),
    program("tee and groupby", """
        import itertools as it
        left, right = it.tee([1, 2, 3]); runs = [(k, len(list(g))) for k, g in it.groupby("aabbb")]
        # %%
        next(left)
        # %%
        print(list(left), list(right), runs)
    """),
    program("partial and reduce", """
        import functools, operator
        acc = []
        push = functools.partial(acc.append); power = functools.partial(pow, exp=2)
        def join(a, b, sep): return f"{a}{sep}{b}"
        dash = functools.partial(join, sep="-")
        # %%
        push(1); push(2)
        # %%
        print(acc, power(5), dash("a", "b"), functools.reduce(operator.mul, range(1, 6)), dash.keywords)
        # %%
        def join(a, b, sep): return "new"
        dash(1, 2), dash.func is join
    """),
    program("lru_cache keeps working", """
        import functools
        @functools.lru_cache(maxsize=None)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        # %%
        fib(30)
        # %%
        print(fib(31), fib.__wrapped__(2), fib.cache_parameters(), fib.__name__)
    """),
    program("lru_cache keeps its content", """
        import functools
        ran = []
        @functools.lru_cache(maxsize=10)
        def slow(n): ran.append(n); return n * n
        slow(3);
        # %%
        slow(3), slow(4)
        # %%
        print(ran, slow.cache_info())
    """),
    program("singledispatch", """
        import functools
        @functools.singledispatch
        def show(x): return "any"
        # %%
        @show.register
        def _(x: int): return f"int {x}"
        @show.register(list)
        def show_list(x): return [show(i) for i in x]
        # %%
        print(show([1, "a"]), show(None), show.dispatch(bool)(True))
    """),
    program("singledispatchmethod", """
        import functools
        class F:
            @functools.singledispatchmethod
            def f(self, x): return "any"
            @f.register
            def _(self, x: str): return "str " + x
        # %%
        F().f("a"), F().f(1)
    """),
    program("key of a comparison", """
        import functools
        def compare(a, b): return b - a
        key = functools.cmp_to_key(compare)
        # %%
        sorted([2, 3, 1], key=key)
        # %%
        sorted([2, 3, 1], key=functools.cmp_to_key(compare))
    """, resident="key"),
    program("operator and attrgetter", """
        import operator as op
        by, attr, call = op.itemgetter("n"), op.attrgetter("real"), op.methodcaller("upper")
        rows = [{"n": 2}, {"n": 1}]
        # %%
        rows.sort(key=by); rows
        # %%
        print(attr(5), call("x"), by(rows[0]))
    """),
)  # fmt: skip
