"""Global and nonlocal, comprehension scopes, walrus, match, loops that leave their variable."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("global in functions", """
        n = 0
        def up():
            global n, made
            n += 1; made = [n]
        def drop():
            global made
            del made
        # %%
        up(); up()
        # %%
        print(n, made)
        # %%
        drop(); "made" in globals()
    """),
    program("nonlocal through two levels", """
        def outer():
            level = []
            def mid():
                nonlocal level
                level = level + ["mid"]
                def inner():
                    nonlocal level
                    level = level + ["inner"]; return level
                return inner
            return mid, lambda: level
        mid, look = outer(); inner = mid()
        # %%
        inner()
        # %%
        other = mid(); other(); look(), inner()
    """),
    program("loops, comprehensions and walrus", """
        total = 0
        for i, (a, *rest) in enumerate([(1, 2, 3), (4,)]): total += a
        # %%
        i, a, rest, total, [i for i in range(2)], i
        # %%
        if (n := len(rest)) == 0: empty = [m := 5]
        # %%
        print(n, m, empty)
    """),
    program("match", """
        event = {"kind": "move", "to": [1, 2], "extra": True}
        # %%
        match event:
            case {"kind": "move", "to": [x, y], **others}: print(x, y, others)
        # %%
        others["k"] = x; event["to"][0] = 9
        # %%
        x, y, others, event
    """),
    program("class scope and lambdas", """
        k = 1
        class C:
            k = 2
            vals = [k for _ in range(1)]
            get = lambda self: k
        # %%
        k = 3; C.vals, C().get()
        # %%
        print(C.k, C.get(None))
    """),
    program("unbound local and empty closure cell", """
        def f():
            print(v)
            v = 1
        def mk():
            def g(): return later
            if False: later = 1
            return g
        g = mk()
        # %%
        f()
        # %%
        g()
        # %%
        g.__code__.co_freevars
    """),
)  # fmt: skip
