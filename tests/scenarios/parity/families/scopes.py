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
    program("code executed in a dictionary", """
        space = {}
        exec("count = 1\\ndef bump():\\n    global count\\n    count += 1\\n    return count\\nmore = [bump]", space)
        bump = space["bump"]
        # %%
        space["count"] = 10; bump(), bump.__globals__ is space, space["more"][0] is bump
        # %%
        print(space["count"], bump(), space["count"], sorted(name for name in space if name != "__builtins__"))
        # %%
        import runpy
        with open("script.py", "w") as file: file.write("base = 2\\ndef power(n): return base ** n\\n")
        ran = runpy.run_path("script.py"); power = ran["power"]
        # %%
        power(3), ran["base"], ran["power"] is power
    """),
)  # fmt: skip
