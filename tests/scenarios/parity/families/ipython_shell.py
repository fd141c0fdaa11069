"""IPython: magics, history, help, shell, displays, formatters, hooks."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("In, Out and underscores", """
        40 + 2
        # %%
        _ + 1
        # %%
        print(_1, _2, Out, In[1], len(In))
        # %%
        [1, 2];
        # %%
        _oh[1], _ih[4], _dh == [__import__("os").getcwd()]
    """, alone=True),
    program("Out keeps identity", """
        x = [1]
        x
        # %%
        _.append(2)
        # %%
        Out[1].append(3); x
        # %%
        print(x is Out[1], _3 is x)
    """, alone=True),
    program("history", """
        a = 1
        # %%
        a += 1; a
        # %%
        %history
        # %%
        %history -n 1-2
        # %%
        %rerun 2
        # %%
        %recall 1
        # %%
        %macro twice 2
        # %%
        twice
    """, alone=True),
    program("capture", """
        %%capture kept
        print("out"); import sys; print("err", file=sys.stderr); display(5); 7
        # %%
        print(kept.stdout, kept.stderr, len(kept.outputs))
        # %%
        kept.show()
        # %%
        kept.outputs[0].data
    """),
    program("help", """
        def tool(a, b=2):
            "Does a thing."
            return a
        # %%
        tool?
        # %%
        tool??
        # %%
        value = [1]
        ?value
        # %%
        help(tool)
    """),
    program("shell", """
        word = "hello"
        # %%
        !echo $word world
        # %%
        lines = !printf 'a\\nb\\n'
        # %%
        print(lines, lines.n, type(lines).__name__)
        # %%
        %sx echo {word}
        # %%
        !exit 3
        # %%
        _exit_code
    """),
    program("who and whos", """
        number, text, items = 1, "t", [1, 2]
        def func(): pass
        # %%
        %who
        # %%
        %whos
        # %%
        %who_ls list
        # %%
        del text
        %who str
        # %%
        %who_ls
    """),
    program("timeit and prun into names", """
        def work(n): return sum(range(n))
        # %%
        result = %timeit -n1 -r1 -q -o work(10)
        # %%
        print(result.loops, result.repeat, type(result).__name__)
        # %%
        %timeit -n1 -r1 -q work(5)
    """),
    program("display and update", """
        from IPython.display import HTML, JSON, Latex, Markdown, display
        handle = display("first", display_id="fixed")
        # %%
        handle.update("second")
        # %%
        display(HTML("<b>x</b>"), Markdown("*y*"), metadata={"text/html": {"isolated": True}})
        # %%
        display({"text/plain": "raw", "application/json": {"a": 1}}, raw=True)
        # %%
        Latex("$x$")
    """),
    program("clear output and streams", """
        from IPython.display import clear_output
        import sys
        # %%
        print("one"); clear_output(wait=True); print("two"); print("err", file=sys.stderr)
        # %%
        sys.stdout.write("no newline"); sys.stdout.flush(); display(1); print(" after")
    """),
    program("rich representations", """
        class Rich:
            def __init__(self, v): self.v = v
            def _repr_html_(self): return f"<i>{self.v}</i>"
            def _repr_markdown_(self): return f"*{self.v}*", {"meta": 1}
            def __repr__(self): return f"Rich({self.v})"
        class Bundle:
            def _repr_mimebundle_(self, include=None, exclude=None): return {"text/plain": "b", "x/y": [1]}
        class Own:
            def _ipython_display_(self): print("own display")
        r, b, o = Rich(1), Bundle(), Own()
        # %%
        r
        # %%
        r.v = 2; display(r, b)
        # %%
        b
        # %%
        o
        # %%
        class Bad:
            def _repr_html_(self): raise ValueError("html failed")
        # %%
        Bad()
    """),
    program("user formatter", """
        class Money:
            def __init__(self, n): self.n = n
        f = get_ipython().display_formatter.formatters["text/plain"]
        f.for_type(Money, lambda m, p, cycle: p.text(f"{m.n} EUR"))
        # %%
        m = Money(5); m
        # %%
        m.n = 6; [m, m]
    """),
    program("html formatter for a builtin type", """
        html = get_ipython().display_formatter.formatters["text/html"]
        html.for_type(tuple, lambda t: f"<ol>{len(t)}</ol>")
        del html
        # %%
        (1, 2, 3)
        # %%
        get_ipython().display_formatter.formatters["text/html"].pop(tuple)
    """),
    program("precision and pprint", """
        %precision 3
        # %%
        3.14159265
        # %%
        %pprint
        # %%
        [1.23456, {"a": 2.0}]
    """, alone=True),
    program("load_ext with own magic", """
        %%writefile own_extension.py
        from IPython.core.magic import register_line_magic
        def load_ipython_extension(ip):
            ip.register_magic_function(lambda line: line.upper(), "line", "shout")
            ip.push({"from_extension": [1]})
        # %%
        %load_ext own_extension
        # %%
        %shout hello
        # %%
        from_extension.append(2); from_extension
        # %%
        %load_ext own_extension
    """),
    program("line and cell magics of the notebook", """
        from IPython.core.magic import register_cell_magic, register_line_magic
        used = []
        @register_line_magic
        def note(line): used.append(line); return len(used)
        @register_cell_magic
        def both(line, cell): print(line, "|", cell.strip()); return cell.count("a")
        # %%
        %note first
        # %%
        n = %note second
        # %%
        %%both arg
        banana
        # %%
        print(used, n)
    """),
    program("alias and automagic", """
        %alias say echo said:
        # %%
        %say hi there
        # %%
        say again
        # %%
        %automagic
        # %%
        say no more
    """, alone=True),
    program("a variable named like a magic", """
        pwd = {"mine": 1}
        who = ["me"]
        # %%
        pwd
        # %%
        who
        # %%
        who.append("you")
        who
    """),
    program("a function named like a magic", """
        def run(n): return [n]
        class Load:
            def all(self): return "all"
        load = Load()
        # %%
        run(3)
        # %%
        load.all()
    """),
    program("event hooks", """
        ran = []
        def before(info): ran.append(("before", info.raw_cell[:8]))
        def after(result): ran.append(("after", result.success))
        get_ipython().events.register("pre_run_cell", before)
        get_ipython().events.register("post_run_cell", after)
        # %%
        x = 1
        # %%
        1 / 0
        # %%
        get_ipython().events.unregister("pre_run_cell", before)
        get_ipython().events.unregister("post_run_cell", after)
        ran
        # %%
        ran
    """),
    program("input and AST transformers", """
        import ast
        def shout(lines): return [line.replace("LOUD", "'loud'") for line in lines]
        class Twice(ast.NodeTransformer):
            def visit_Constant(self, node):
                return ast.copy_location(ast.Constant(node.value * 2), node) if type(node.value) is int else node
        ip = get_ipython()
        ip.input_transformers_cleanup.append(shout)
        ip.ast_transformers.append(Twice())
        # %%
        LOUD, 21
        # %%
        del ip
        print(LOUD)
    """, alone=True),
    program("interactivity", """
        %config InteractiveShell.ast_node_interactivity = "all"
        # %%
        1
        2
        [3]
        # %%
        %config InteractiveShell.ast_node_interactivity = "last_expr_or_assign"
        # %%
        a = 5
        # %%
        a + 1
        # %%
        %config InteractiveShell.ast_node_interactivity = "last_expr"
    """),
    program("set_next_input and page", """
        get_ipython().set_next_input("x = 5", replace=True)
        # %%
        from IPython.core import page
        page.page("long text\\nof two lines")
        # %%
        print("done")
    """),
    program("user expressions", """
        a = [1]; boom = 0
        # %%
        a.append(2); a
    """, ask=("a", "len(a)", "1 / boom", "unknown")),
    program("cell magics that run code", """
        %%time?
        # %%
        %%python3
        print("in another process", 1 + 1)
        # %%
        %%bash --out said --err wrong
        echo out; echo err >&2
        # %%
        print(repr(said), repr(wrong))
        # %%
        %%html
        <b>bold</b>
        # %%
        %%writefile note.txt
        line one
        # %%
        %cat note.txt
    """),
    program("run a script", """
        %%writefile script.py
        import sys
        result = [int(a) for a in sys.argv[1:]]
        print(__name__, sum(result))
        # %%
        %run script.py 1 2 3
        # %%
        result.append(4); result
        # %%
        base = 5
        %run -i script.py
        # %%
        result, base
    """),
    program("store, pinfo, psource and lsmagic", """
        def add(a, b):
            return a + b  # sum
        # %%
        %psource add
        # %%
        %pdef add
        # %%
        %pdoc len
        # %%
        %lsmagic_unknown
        # %%
        %%unknown_cell_magic
        x
    """),
    program("matplotlib", """
        import matplotlib.pyplot as plt
        def draw(ys):
            fig, ax = plt.subplots(figsize=(2, 1)); ax.plot(ys); ax.set_title("t"); return fig
        # %%
        fig = draw([1, 3, 2])
        # %%
        fig.axes[0].set_xlabel("x"); fig
        # %%
        plt.plot([1, 2]); plt.show(); print(plt.get_fignums())
    """),
    program("the last three results", """
        40 + 2
        # %%
        _ + 1
        # %%
        _ + 1
        # %%
        print(_, __, ___)
    """, alone=True),
    program("the last three inputs", """
        a = 1
        # %%
        b = 2
        # %%
        print(repr(_i), repr(_ii))
    """),
    program("history with output", """
        "first"
        # %%
        1 + 1
        # %%
        %history -o 1-2
    """, alone=True),
)  # fmt: skip
