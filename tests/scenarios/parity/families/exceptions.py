"""Exceptions and tracebacks over cells: frames, line numbers, chains, notes, what stays after an error."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("frames of several cells", """
        def inner(x):
            y = x + 1
            return y / 0
        # %%
        def outer(x):

            return inner(x * 2)
        # %%
        outer(3)
        # %%
        outer("text")
    """),
    program("chained", """
        class Broken(Exception): pass
        def low(): return {}["missing"]
        # %%
        def high():
            try:
                low()
            except KeyError as e:
                raise Broken("no luck") from e
        # %%
        high()
        # %%
        try: high()
        except Broken as e: print(repr(e), repr(e.__cause__), e.__suppress_context__)
    """),
    program("context and from None", """
        def f(quiet):
            try: 1 / 0
            except ZeroDivisionError as e:
                if quiet: raise ValueError("quiet") from None
                raise ValueError("loud")
        # %%
        f(False)
        # %%
        f(True)
    """),
    program("notes and groups", """
        def fail():
            e = ValueError("bad"); e.add_note("note one"); e.add_note("note two")
            raise e
        # %%
        fail()
        # %%
        try:
            raise ExceptionGroup("many", [ValueError(1), TypeError("t")])
        except* ValueError as group:
            kept = group.exceptions
        # %%
        kept
    """),
    program("syntax errors", """
        x = 1
        # %%
        x = 2
        def f(:
            pass
        # %%
        print("x is", x)
        # %%
          return 5
        # %%
        f"{x!z}"
        # %%
        print("x is still", x)
    """),
    program("an exception kept in a name", """
        class Coded(Exception):
            def __init__(self, code, why):
                super().__init__(why)
                self.code = code
        # %%
        kept = Coded(3, "why"); kept.extra = [1]
        # %%
        kept.extra.append(2)
        print(repr(kept), kept.code, kept.args, kept.extra)
        # %%
        raise kept
    """),
    program("error inside a comprehension and a lambda", """
        data = [1, 0, 2]
        inv = lambda v: 10 // v
        # %%
        [inv(v) for v in data]
        # %%
        sorted(data, key=lambda v: 1 / v)
    """),
    program("error in library code", """
        import json
        def parse(text): return json.loads(text)
        # %%
        parse("{bad}")
        # %%
        try: parse("[1")
        except json.JSONDecodeError as e: print(e.pos, e.msg)
    """),
    program("SystemExit and assertion", """
        def check(v): assert v > 0, f"{v} is not positive"
        # %%
        check(-1)
        # %%
        raise SystemExit(3)
        # %%
        print("goes on")
    """),
    program("recursion error", """
        def down(n): return down(n + 1)
        # %%
        try: down(0)
        except RecursionError as e: print(type(e).__name__, e)
        # %%
        down.__name__
    """),
    program("attribute and name suggestions", """
        class Car: wheels = 4
        car = Car(); distance = 5
        # %%
        car.wheel
        # %%
        distanse
        # %%
        import math; math.squrt
    """),
    program("traceback module over cells", """
        import traceback
        def g(): raise LookupError("here")
        # %%
        try: g()
        except LookupError: text = traceback.format_exc()
        # %%
        print(text.splitlines()[-1], [f.name for f in traceback.extract_stack()][-1:])
        # %%
        try: g()
        except LookupError as e: print([(f.name, f.lineno, f.line) for f in traceback.extract_tb(e.__traceback__)])
    """),
    program("warnings", """
        import warnings
        def old(): warnings.warn("use new", DeprecationWarning, stacklevel=2)
        # %%
        old()
        # %%
        for _ in range(3): warnings.warn("once only")
        # %%
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always"); old()
        print([str(w.message) for w in caught])
    """),
    program("last error", """
        1 / 0
        # %%
        import sys
        print(sys.last_type.__name__, sys.last_value)
    """),
    program("tb magic", """
        1 / 0
        # %%
        %tb
    """),
    program("xmode", """
        %xmode Minimal
        # %%
        1 / 0
        # %%
        %xmode Context
    """),
    program("group as the first error", """
        import asyncio
        async def bad(): raise ValueError(4)
        # %%
        async with asyncio.TaskGroup() as group: group.create_task(bad())
        # %%
        print("goes on", "group" in globals())
    """),
)  # fmt: skip
