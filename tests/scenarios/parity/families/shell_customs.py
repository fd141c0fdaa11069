"""What a notebook registers in the shell, in ways of its own: classes of magics, hooks that are methods, options."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("a class of magics with state", """
        from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
        @magics_class
        class Counting(Magics):
            def __init__(self, shell): super().__init__(shell); self.count = 0
            @line_magic
            def count(self, line): self.count_up(); return self.count_of(line)
            @cell_magic
            def twice(self, line, cell): self.shell.run_cell(cell); self.shell.run_cell(cell)
            def count_up(self): self.counted = getattr(self, "counted", 0) + 1
            def count_of(self, line): return line, self.counted
        counting = Counting(get_ipython()); get_ipython().register_magics(counting)
        # %%
        %count a
        # %%
        %count b
        # %%
        counting.counted, get_ipython().find_line_magic("count").__self__ is counting
        # %%
        %%twice
        print("again")
    """, alone=True),
    program("the shell by name", """
        ip = get_ipython(); text = ip.display_formatter.formatters["text/plain"]; run = ip.run_line_magic
        # %%
        ip is get_ipython(), text is ip.display_formatter.formatters["text/plain"]
        # %%
        run("precision", "2"); 3.14159
        # %%
        ip.run_line_magic("precision", ""); [3.14159]
    """, alone=True),
    program("a hook that is a method, and one that unregisters itself", """
        class Timer:
            def __init__(self): self.cells = 0
            def count(self, info): self.cells += 1
        timer = Timer()
        def once(result):
            print("only once"); get_ipython().events.unregister("post_run_cell", once)
        ip = get_ipython()
        ip.events.register("pre_run_cell", timer.count); ip.events.register("post_run_cell", once)
        # %%
        timer.cells
        # %%
        timer.cells
        # %%
        ip.events.unregister("pre_run_cell", timer.count)
        # %%
        timer.cells
    """, alone=True),
    program("mimebundle and named type formatters", """
        class Point:
            def __init__(self, x): self.x = x
        shown = []
        def bundle(p, include=None, exclude=None): shown.append(p.x); return {"text/html": f"<b>{p.x}</b>"}
        get_ipython().display_formatter.mimebundle_formatter.for_type(Point, bundle)
        html = get_ipython().display_formatter.formatters["text/html"]
        html.for_type_by_name("fractions", "Fraction", lambda f: f"{f.numerator} over {f.denominator}");
        # %%
        Point(3)
        # %%
        import fractions; print(shown); fractions.Fraction(1, 3)
        # %%
        html.pop(fractions.Fraction, None); get_ipython().display_formatter.mimebundle_formatter.pop(Point)
        fractions.Fraction(1, 3)
        # %%
        fractions.Fraction(1, 4)
    """, alone=True),
    program("a handler of exceptions", """
        class Stop(Exception): pass
        caught = []
        def handle(shell, etype, value, tb, tb_offset=None): caught.append(str(value)); print("stopped:", value)
        get_ipython().set_custom_exc((Stop,), handle)
        # %%
        raise Stop("here")
        # %%
        caught
        # %%
        get_ipython().set_custom_exc((), None)
        # %%
        get_ipython().custom_exceptions
    """, alone=True),
    program("a magic that is gone, and an alias of one", """
        get_ipython().magics_manager.magics["line"].pop("pwd");
        # %%
        get_ipython().find_line_magic("pwd")
        # %%
        %alias_magic t time
        # %%
        get_ipython().find_line_magic("t").magic_name
        # %%
        %unalias ll
        # %%
        get_ipython().alias_manager.is_alias("ll"), get_ipython().alias_manager.is_alias("ls")
    """, alone=True),
    program("options of the shell", """
        %config PlainTextFormatter.max_seq_length = 3
        %autocall 1
        # %%
        list(range(6))
        # %%
        get_ipython().autocall
        # %%
        %config PlainTextFormatter.max_seq_length = 1000
        %autocall 0
        # %%
        list(range(6)), get_ipython().autocall
    """, alone=True),
    program("autoreload", """
        %load_ext autoreload
        %autoreload 2
        # %%
        %aimport -json
        # %%
        %aimport
        # %%
        %autoreload 0
        # %%
        reloader = get_ipython().magics_manager.registry["AutoreloadMagics"]._reloader
        reloader.enabled, reloader.check_all
    """, alone=True),
    program("directories visited", """
        import os
        os.makedirs("one/two", exist_ok=True)
        # %%
        %cd -q one
        # %%
        %cd -q two
        # %%
        [os.path.basename(d) for d in _dh[1:]]
        # %%
        %cd -q -0
        # %%
        sorted(os.listdir("one"))
    """, alone=True),
)  # fmt: skip
