"""What a notebook puts into modules and classes of libraries, and what libraries put there on its behalf."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("methods that tqdm gives frames", """
        import pandas as pd, sys
        from tqdm import tqdm
        tqdm.pandas(disable=True)
        df = pd.DataFrame({'a':[1,2,3]})
        # %%
        print(df.a.progress_apply(lambda x: x+1).tolist())
        # %%
        print(df.progress_apply(lambda r: r.a*2, axis=1).tolist())
        # %%
        print(df.groupby('a').progress_apply(len).tolist())
    """),
    program("an accessor of frames", """
        import pandas as pd
        @pd.api.extensions.register_dataframe_accessor("geo")
        class Geo:
            def __init__(self, obj): self._obj = obj
            def total(self): return self._obj.a.sum()
        df = pd.DataFrame({'a':[1,2,3]})
        # %%
        print(df.geo.total(), 'geo' in dir(df), type(df.geo) is Geo)
        # %%
        df2 = df.copy(); print(df2.geo.total())
        # %%
        del pd.DataFrame.geo
        # %%
        print(hasattr(df, 'geo'))
    """),
    program("a map of colours", """
        import matplotlib; matplotlib.use('agg')
        import matplotlib.pyplot as plt, numpy as np
        from matplotlib.colors import ListedColormap
        matplotlib.colormaps.register(ListedColormap(['red','blue'], name='mine'))
        # %%
        print(plt.get_cmap('mine').N)
        # %%
        print(matplotlib.colormaps['mine'](0.0))
        # %%
        matplotlib.colormaps.unregister('mine')
        # %%
        print('mine' in matplotlib.colormaps)
    """),
    program("a method given to a class", """
        import pandas as pd
        def top(self, n=2): return self.sort_values(self.columns[0], ascending=False).head(n)
        pd.DataFrame.top = top
        df = pd.DataFrame({'a':[1,5,3]})
        # %%
        print(df.top().a.tolist(), pd.DataFrame.top is top)
        # %%
        def top(self, n=1): return self.head(n)
        # %%
        print(df.top().a.tolist(), pd.DataFrame.top is top)
        pd.DataFrame.top = top
        # %%
        print(df.top().a.tolist(), pd.DataFrame.top is top)
        # %%
        del pd.DataFrame.top
        # %%
        print(hasattr(df, 'top'))
    """),
    program("attributes of modules", """
        import json, math, string
        json.mine = [1, 2]; alias = json.mine
        math.tau2 = 2 * math.tau
        setattr(string, 'shout', str.upper)
        # %%
        json.mine.append(3); print(alias, alias is json.mine, math.tau2 == 2*math.tau, string.shout('a'))
        # %%
        print(json.mine, alias); json.mine = 'new'
        # %%
        print(json.mine, alias); del json.mine
        # %%
        print(hasattr(json, 'mine'), alias)
    """),
    program("names given to builtins", """
        import builtins
        builtins.hello = lambda: 'hi'
        builtins.answer = 42
        # %%
        print(hello(), answer)
        # %%
        def f(): return answer
        print(f()); builtins.answer = 43
        # %%
        print(f(), answer)
    """),
    program("settings in a module", """
        %%writefile mysettings.py
        DEBUG = False
        class Conf:
            level = 1
        # %%
        import sys; sys.path.insert(0, '.')
        import mysettings
        mysettings.DEBUG = True; mysettings.Conf.level = 5
        # %%
        print(mysettings.DEBUG, mysettings.Conf.level, mysettings.Conf().level)
        # %%
        from mysettings import Conf
        print(Conf.level)
    """),
    program("print replaced", """
        import builtins
        _print = print
        def print(*a, **k): _print('>', *a, **k)
        builtins.print = print
        # %%
        print('x')
        # %%
        del print; builtins.print('y')
        # %%
        builtins.print = _print; print('z')
    """),
    program("attributes of sys and warnings", """
        import sys, threading, warnings
        warnings.showwarning = lambda *a, **k: print('W', a[0])
        sys.ps9 = 'x'
        # %%
        warnings.warn('hey'); print(sys.ps9)
    """),
    program("a function of C replaced", """
        import math
        real, asked = math.sqrt, []
        math.sqrt = lambda x: asked.append(x) or real(x)
        # %%
        print(math.sqrt(4), asked, real is not math.sqrt)
        # %%
        math.sqrt = real
        # %%
        import math as m
        print(m.sqrt is real, asked, math.sqrt(9))
    """),
    program("a function of a module wrapped", """
        import textwrap
        original, calls = textwrap.shorten, []
        def shorten(*a, **k):
            calls.append(len(a)); return original(*a, **k)
        textwrap.shorten = shorten
        # %%
        print(textwrap.shorten("a b c", 3, placeholder=""), calls, original is not textwrap.shorten)
        # %%
        import textwrap as t
        print(t.shorten("a b c", 5), calls, textwrap.shorten is shorten, original.__module__)
        textwrap.shorten = original
        # %%
        print(textwrap.shorten("a b", 3), calls, textwrap.shorten is original)
    """),
    program("a class of a module replaced", """
        import string
        Before = string.Template
        class Mine(Before):
            def twice(self): return self.template * 2
        string.Template = Mine
        # %%
        t = string.Template("$a"); print(t.twice(), string.Template is Mine, Before is not Mine, type(t) is Mine)
        # %%
        string.Template = Before
        # %%
        print(string.Template is Before, isinstance(t, Before), t.twice(), t.substitute(a=1))
    """),
    program("an attribute set in a timed cell, and by setattr in a function", """
        import string
        def mark(value): setattr(string, "mark", value)
        # %%
        %%capture
        string.noted = [1]
        # %%
        mark("x"); print(string.noted)
        # %%
        print(string.mark); string.noted.append(2)
        # %%
        print(string.noted); delattr(string, "noted")
        # %%
        print(hasattr(string, "noted"), string.mark)
    """),
)  # fmt: skip
