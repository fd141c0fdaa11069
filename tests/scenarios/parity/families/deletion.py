"""Errors and deletion half-way: what a cell did before it raised stays done."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("error half-way", """
        a = [1]
        # %%
        a.append(2)
        b = 3
        1 / 0
        c = 4
        # %%
        print(a, b, "c" in globals())
    """),
    program("error inside a function", """
        state = {"n": 0}
        def step(fail):
            state["n"] += 1
            if fail: raise KeyError("stop")
            state["done"] = True
        # %%
        step(True)
        # %%
        step(False)
        # %%
        state
    """),
    program("del and NameError", """
        x, y = 1, [2]
        z = y
        # %%
        del x, y
        # %%
        x
        # %%
        z.append(3); print(z, "y" in globals())
        # %%
        del y
    """),
    program("delete in the middle of an error", """
        keep, gone = [1], [2]
        # %%
        del gone
        keep.clear()
        raise RuntimeError("after del")
        # %%
        print(keep); gone
    """),
    program("a for loop that stops", """
        seen = []
        # %%
        for item in [1, 2, 0, 3]:
            seen.append(10 // item)
        # %%
        print(item, seen)
        # %%
        del item; seen, "item" in dir()
    """),
    program("finally and else", """
        order = []
        try:
            order.append("try"); 1 / 0
        except ZeroDivisionError as e:
            order.append(str(e))
        else: order.append("else")
        finally: order.append("finally")
        # %%
        print(order, "e" in globals())
        # %%
        def f():
            try: return "returned"
            finally: order.append("late")
        f(), order
    """),
    program("delete items, slices and attributes", """
        class Box: pass
        b = Box(); b.v = {"k": [1, 2, 3]}; inner = b.v["k"]
        # %%
        del b.v["k"]; del inner[0]
        # %%
        print(b.v, inner); del b.v
        # %%
        hasattr(b, "v"), inner
    """),
    program("reset with a filter and xdel", """
        alpha1, alpha2, beta = 1, [2], 3
        # %%
        %reset_selective -f alpha
        # %%
        print(sorted(n for n in ("alpha1", "alpha2", "beta") if n in globals()))
        # %%
        beta
    """),
    program("reset and start over", """
        import math
        keep = [1]
        def f(): return keep
        # %%
        %reset -f
        # %%
        print("keep" in globals(), "f" in globals(), "math" in globals())
        # %%
        keep = [2]
        def f(): return keep
        # %%
        f()
    """),
    program("rebind after delete", """
        v = [1]; w = v
        # %%
        del v
        # %%
        v = "new"; w.append(2)
        # %%
        print(v, w)
    """),
    program("reset of inputs and outputs", """
        "first value"
        # %%
        %reset -f out
        # %%
        print(len(Out), _ if "_" in globals() else "no _")
        # %%
        "second"
        # %%
        _
    """, alone=True),
    program("xdel", """
        beta = [1]
        # %%
        %xdel beta
        # %%
        beta
    """),
)  # fmt: skip
