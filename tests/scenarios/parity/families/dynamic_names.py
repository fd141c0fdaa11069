"""Names by other ways: globals(), eval, exec, locals, vars, dir, __main__, annotations."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("globals by name", """
        for i in range(3): globals()[f"v{i}"] = [i]
        # %%
        globals()["v0"].append("x"); globals().update(fresh=1)
        # %%
        print(v0, fresh, sorted(n for n in globals() if n.startswith("v") and n[1:].isdigit()))
        # %%
        del globals()["v1"]; globals().pop("v2"); "v1" in globals(), "v2" in dir()
    """),
    program("exec and eval", """
        code = "made = [1]\\ndef made_f(): return made"
        exec(code)
        # %%
        exec("made.append(2)"); eval("made_f()")
        # %%
        own = {}
        exec(code, own)
        # %%
        own["made"].append(9); own["made_f"](), made
        # %%
        f = eval("lambda: made[0] + 1"); exec("del made_f"); f(), "made_f" in globals()
    """),
    program("compile kept in a name", """
        expr = compile("deep + 1", "<own>", "eval"); body = compile("deep = deep * 2", "<own>", "exec")
        # %%
        deep = 4
        exec(body)
        # %%
        print(eval(expr), expr.co_names)
    """),
    program("a name hidden in a string", """
        def look(name): return eval(name)
        def put(name, value): exec(f"global {name}; {name} = value")
        # %%
        hidden = [1]
        put("planted", 5)
        # %%
        look("hid" + "den").append(2)
        # %%
        print(hidden, planted, look("len(hidden)"))
    """),
    program("main module", """
        z = [1]
        # %%
        import sys
        sys.modules["__main__"].z.append(2); sys.modules["__main__"].t = 5
        # %%
        setattr(sys.modules["__main__"], "u", [t]); getattr(sys.modules["__main__"], "nope", "default")
        # %%
        import importlib
        print(z, t, u, __name__, vars(importlib.import_module("__main__")) is globals())
    """),
    program("dir, vars and locals", """
        first_name, second_name = 1, 2
        # %%
        sorted(n for n in dir() if n.endswith("_name")), sorted(n for n in vars() if n.endswith("_name"))
        # %%
        locals()["third_name"] = 3; third_name
        # %%
        [n for n in sorted(locals()) if n.endswith("_name")], "{first_name}-{third_name}".format(**globals())
    """),
    program("annotations of the notebook", """
        x: int = 1
        y: "list[str]"
        # %%
        z: float = 2.0
        # %%
        print(__annotations__, "y" in globals())
    """),
    program("user_ns and push", """
        ip = get_ipython(); ip.push({"pushed": [1]}); ip.user_ns["direct"] = 2; del ip
        # %%
        pushed.append(direct); pushed
        # %%
        get_ipython().ev("pushed[0]"), get_ipython().user_ns["direct"]
        # %%
        get_ipython().ex("direct += 1"); get_ipython().run_cell("inner = direct * 2"); inner
    """),
    program("odd names", """
        größe = 1; globals()["a b/c"] = [2]; __dunder = 3; _private = [4]; __ = 5
        # %%
        globals()["a b/c"].append(größe); _private.append(__dunder)
        # %%
        print(größe, globals()["a b/c"], _private, __dunder)
    """),
    program("names of builtins shadowed", """
        list = [1, 2]; print_ = print; sum = lambda *a: "mine"
        # %%
        print_(list, sum([1]))
        # %%
        del list, sum
        # %%
        list("ab"), sum([1, 2])
    """),
    program("main module under a name", """
        import __main__ as me
        z = [1]
        # %%
        me.z.append(2); hasattr(me, "z")
        # %%
        print(z, me.__name__, vars(me) is globals())
    """),
)  # fmt: skip
