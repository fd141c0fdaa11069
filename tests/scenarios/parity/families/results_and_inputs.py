"""What the shell remembers of inputs, outputs and errors, over cells that do not look at it."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("results that no cell read", """
        10
        # %%
        20
        # %%
        30
        # %%
        print(_, __, ___)
    """, alone=True),
    program("results of which some were read", """
        10
        # %%
        20
        # %%
        _ + 1
        # %%
        1
        # %%
        print(_, __, ___)
    """, alone=True),
    program("an underscore of the user", """
        _ = 5
        # %%
        1 + 1
        # %%
        print(_); 3
        # %%
        7
        # %%
        print(_, __)
    """, alone=True),
    program("an underscore of a loop", """
        for _ in range(3): pass
        # %%
        "shown"
        # %%
        print(_)
        # %%
        del _
        # %%
        "again"
        # %%
        _
    """, alone=True),
    program("outputs after a reset of outputs", """
        "one"
        # %%
        "two"
        # %%
        %reset -f out
        # %%
        "three"
        # %%
        "four"
        # %%
        print(repr(_), repr(__), sorted(Out))
    """, alone=True),
    program("reset of inputs", """
        a = 1
        # %%
        %reset -f in
        # %%
        b = 2
        # %%
        print(In, repr(_i), repr(_ii), "_i1" in globals())
    """, alone=True),
    program("inputs", """
        a = 1
        # %%
        b = 2
        # %%
        c = 3
        # %%
        d = 4
        # %%
        print(repr(_i), repr(_ii), repr(_iii), In, _i2)
    """, alone=True),
    program("texts of outputs", """
        [1, 2]
        # %%
        {"a": {1: 2}}
        # %%
        print("no output")
        # %%
        import math
        math.pi
        # %%
        %history -o -n
    """, alone=True),
    program("texts of outputs that were changed", """
        [1, 2]
        # %%
        _1.append(3)
        # %%
        %history -o 1
    """, alone=True),
    program("last error of a class of the notebook", """
        class Broken(Exception):
            def __init__(self, code): super().__init__(f"code {code}"); self.code = code
        def fail(n): raise Broken(n)
        # %%
        fail(3)
        # %%
        import sys
        print(sys.last_type is Broken, sys.last_value.code, hasattr(sys, "last_exc"))
        # %%
        import traceback
        traceback.print_last()
        # %%
        %tb
    """),
    program("last error that cannot move", """
        import threading
        class Holds(Exception): pass
        def fail():
            class Inner(ValueError): pass
            raise Inner("local")
        # %%
        e = Holds("held"); e.lock = threading.Lock(); e.lock.acquire()
        raise e
        # %%
        %tb
        # %%
        e
        # %%
        fail()
        # %%
        import sys
        print(sys.last_type.__name__, sys.last_value)
    """, resident="e"),
    program("last error after another", """
        def f(n): return [1, 2][n]
        # %%
        f(5)
        # %%
        {}["missing"]
        # %%
        x = 1
        # %%
        %tb
        # %%
        import sys
        print(repr(sys.last_value))
        del sys.last_value, sys.last_type, sys.last_traceback
        # %%
        print(hasattr(sys, "last_value"))
    """),
    program("post mortem", """
        def f(n): return 1 / n
        # %%
        f(0)
        # %%
        import sys
        tb = sys.last_traceback
        while tb.tb_next: tb = tb.tb_next
        print(tb.tb_frame.f_code.co_name, tb.tb_lineno, tb.tb_frame.f_globals is globals())
    """),
    program("traceback of an error that is kept", """
        import traceback
        def low(n): return 10 / n
        def high(n):
            return low(n)
        # %%
        try: high(0)
        except ZeroDivisionError as e: saved = e
        # %%
        print("".join(traceback.format_exception(saved)))
        # %%
        raise saved
        # %%
        [f.name for f in traceback.extract_tb(saved.__traceback__)]
    """),
    program("error with a cause that is kept", """
        import json
        try:
            try: json.loads("{bad}")
            except ValueError as e: e.add_note("of a test"); raise RuntimeError("outer") from e
        except RuntimeError as e: saved = e
        # %%
        saved.__cause__, saved.__cause__.__notes__, saved.__cause__.pos
        # %%
        raise saved
    """),
    program("group that is kept", """
        def work(n):
            if n % 2: raise ValueError(n)
            raise TypeError(n)
        # %%
        errors = []
        for n in range(3):
            try: work(n)
            except Exception as e: errors.append(e)
        # %%
        group = ExceptionGroup("all", errors); group.subgroup(TypeError)
        # %%
        raise group
        # %%
        print(group.exceptions[0] is errors[0], group.split(ValueError))
    """),
)  # fmt: skip
