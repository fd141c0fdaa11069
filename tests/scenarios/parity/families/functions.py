"""Functions, closures, decorators, defaults, recursion over cells."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("live globals", """
        def f(): return y + 1
        # %%
        f()
        # %%
        y = 5
        f()
        # %%
        y = 6; print(f(), f.__globals__ is globals(), f.__module__)
    """),
    program("recursion over cells", """
        def even(n): return n == 0 or odd(n - 1)
        # %%
        def odd(n): return n != 0 and even(n - 1)
        # %%
        even(10), odd(7)
        # %%
        old = even
        def even(n): return "new"
        # %%
        print(old(3), odd(1), old is even)
    """),
    program("closures share a variable", """
        def make():
            k = 0
            def up():
                nonlocal k
                k += 1
                return k
            def look(): return k
            return up, look
        up, look = make()
        # %%
        up(); up()
        # %%
        print(look(), up.__closure__[0] is look.__closure__[0])
        # %%
        up.__closure__[0].cell_contents = 40; up(), look()
    """),
    program("two closures of one maker", """
        def counter(start, log=[]):
            def step():
                nonlocal start
                start += 1
                log.append(start)
                return start
            return step
        a, b = counter(0), counter(10)
        # %%
        a(); b(); a()
        # %%
        print(a(), b(), counter.__defaults__)
    """),
    program("decorator with wraps", """
        import functools
        calls = []
        def traced(f):
            @functools.wraps(f)
            def inner(*args, **kw):
                calls.append(f.__name__)
                return f(*args, **kw)
            return inner
        # %%
        @traced
        def area(w, h=2):
            "Width times height."
            return w * h * unit
        # %%
        unit = 10
        area(3), area.__doc__, area.__wrapped__(1, h=1)
        # %%
        print(calls, area.__name__, area.__qualname__)
    """),
    program("decorator with arguments and state", """
        registry = {}
        def register(name, **options):
            def wrap(f):
                registry[name] = (f, options)
                return f
            return wrap
        # %%
        @register("sq", cost=1)
        def square(x): return x * x
        # %%
        @register("cube")
        def cube(x): return square(x) * x
        # %%
        print({n: (f(3), o) for n, (f, o) in registry.items()}, registry["sq"][0] is square)
    """),
    program("mutable defaults and attributes", """
        def note(x, acc=[], *, seen={}):
            acc.append(x); seen[x] = len(acc)
            note.calls += 1
            return acc
        note.calls = 0
        # %%
        note("a"); note("b")
        # %%
        print(note("c"), note.__kwdefaults__, note.calls, note.__defaults__[0] is note("d"))
    """),
    program("annotations, defaults and signature", """
        import inspect
        def f(a: int, /, b: "str" = "x", *args: float, c, d=None, **kw) -> list:
            'Docs.'
            return [a, b, args, c, d, kw]
        # %%
        print(inspect.signature(f), f.__annotations__, f(1, c=2, z=3))
        # %%
        f.__defaults__ = ("y",); f.__doc__ += " More."
        # %%
        f(1, c=0), f.__doc__
    """),
    program("a function refers to itself by its closure", """
        def make():
            def fact(n): return 1 if n < 2 else n * fact(n - 1)
            return fact
        fact = make()
        # %%
        fact(10)
        # %%
        g = fact; del fact; g(5)
    """),
    program("lambdas in containers", """
        ops = {"+": lambda a, b: a + b + c, "*": lambda a, b: a * b}
        fs = [lambda x, k=k: x * k for k in range(3)]
        late = [lambda: i for i in range(3)]
        # %%
        c = 100
        print(ops["+"](1, 2), [f(10) for f in fs], [f() for f in late])
        # %%
        c = 0; ops["-"] = lambda a, b: ops["+"](a, -b); ops["-"](5, 3), sorted(ops)
    """),
    program("getsource of a function", """
        import inspect
        # %%
        def greet(name):
            # say hello
            return f"hello {name}"
        # %%
        print(inspect.getsource(greet), inspect.getsourcelines(greet)[1], inspect.getcomments(greet))
        # %%
        greet.__code__.co_firstlineno, greet.__code__.co_name
    """),
    program("monkey patched code and globals", """
        def f(): return "old"
        def g(): return "new"
        h = f
        # %%
        f.__code__ = g.__code__
        # %%
        print(h(), f(), f.__name__, h is f)
    """),
    program("closure over a global list", """
        notes = []
        def adder(to):
            return lambda x: to.append(x) or len(to)
        add = adder(notes)
        # %%
        add("a"), add("b")
        # %%
        notes.insert(0, "first"); add("c")
        # %%
        notes
    """),
)  # fmt: skip
