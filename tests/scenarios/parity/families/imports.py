"""Imports: own modules on disk, reload, names of modules."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("own module", """
        %%writefile parity_one.py
        count = 0
        def up():
            global count
            count += 1
            return count
        class Thing:
            def __init__(self, v): self.v = v
            def __repr__(self): return f"Thing({self.v})"
        # %%
        import parity_one
        from parity_one import Thing, up
        # %%
        t = Thing([1]); t.v.append(2); t
        # %%
        print(isinstance(t, parity_one.Thing), up is parity_one.up, Thing.__module__)
    """),
    program("own module with state", """
        %%writefile parity_state.py
        items = []
        def add(x): items.append(x); return len(items)
        # %%
        import parity_state
        # %%
        parity_state.add("a"), parity_state.add("b")
        # %%
        parity_state.items
    """),
    program("reload", """
        %%writefile parity_two.py
        VALUE = 1
        def get(): return VALUE
        # %%
        import importlib, parity_two
        old = parity_two.get
        # %%
        %%writefile parity_two.py
        VALUE = 22222
        def get(): return VALUE, "reloaded"
        # %%
        m = importlib.reload(parity_two)
        # %%
        print(parity_two.get(), m is parity_two, parity_two.VALUE)
    """),
    program("autoreload", """
        %load_ext autoreload
        # %%
        %autoreload 2
        # %%
        %%writefile parity_auto.py
        def f(): return 1
        # %%
        from parity_auto import f
        # %%
        f()
    """),
    program("package and relative import", """
        import os
        os.makedirs("parity_pack", exist_ok=True)
        open("parity_pack/__init__.py", "w").write("from .inner import x\\n")
        open("parity_pack/inner.py", "w").write("def x(): pass\\n");
        # %%
        import parity_pack.inner as inner
        from parity_pack import x
        # %%
        print(x is inner.x, inner.__name__)
    """),
    program("modules under other names", """
        import collections.abc, os.path as p, json as j
        from math import *
        from math import pi as PI
        # %%
        print(p.join("a", "b"), j.dumps({"x": PI}), floor(2.5), isinstance([], collections.abc.Sequence))
        # %%
        j = 5; mods = [p]
        # %%
        import sys
        print(j, mods[0] is sys.modules["posixpath"])
    """),
    program("missing module and circular names", """
        import no_such_module_here
        # %%
        from math import no_such_name
        # %%
        try: import no_such_module_here as n
        except ModuleNotFoundError as e: print(e.name)
    """),
    program("module made by hand", """
        import sys, types
        made = types.ModuleType("handmade"); made.v = [1]
        sys.modules["handmade"] = made
        # %%
        import handmade
        handmade.v.append(2)
        # %%
        print(handmade is made, made.v)
    """),
    program("modules that the notebook makes", """
        import types
        module = types.ModuleType("made"); module.items, same = [1], module; module.get = lambda: module.items
        plain = other = types.ModuleType("plain")
        only = [1].append
        # %%
        module.items.append(2); plain.x = 5; only(2); plain.me = other
        # %%
        print(module.get(), same.items is module.get(), other.x, only.__self__, plain.me is other)
        # %%
        import json
        decode = json.JSONDecoder(object_hook=lambda found: [*found], strict=False)
        # %%
        decode.decode('{"a": [{"b": 1}]}'), decode.scan_once.strict, module.__name__
    """),
)  # fmt: skip
