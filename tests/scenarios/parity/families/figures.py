"""Figures of matplotlib: shown at the end of a cell, kept open over cells, drawn by other backends."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("a figure that stays open", """
        import matplotlib.pyplot as plt
        %config InlineBackend.close_figures = False
        # %%
        fig = plt.figure(figsize=(2, 1))
        # %%
        plt.gcf() is fig, plt.get_fignums()
        # %%
        plt.plot([1, 3]); plt.title("later"); print(len(fig.axes), plt.gca() is fig.axes[0])
        # %%
        fig
        # %%
        plt.close("all"); plt.get_fignums(), plt.fignum_exists(1)
    """, alone=True),
    program("several open figures with names", """
        import matplotlib.pyplot as plt
        %config InlineBackend.close_figures = False
        # %%
        plt.ioff(); a = plt.figure("first"); plt.figure(7); plt.figure(5); plt.figure("first");
        # %%
        plt.get_fignums(), plt.get_figlabels(), plt.gcf() is a, plt.gcf().number
        # %%
        plt.figure(7); plt.close("first"); plt.isinteractive()
        # %%
        print(plt.get_fignums(), plt.gcf().number, a.number)
        # %%
        plt.close(5); plt.close(7); plt.ion(); plt.get_fignums()
    """, alone=True),
    program("another backend", """
        import matplotlib, matplotlib.pyplot as plt
        plt.switch_backend("agg"); fig, ax = plt.subplots(figsize=(2, 1)); ax.plot([1, 2])
        # %%
        matplotlib.get_backend(), plt.gcf() is fig, plt.gca() is ax, type(fig.canvas).__name__
        # %%
        plt.plot([4, 1]); fig.savefig("made.png"); len(ax.lines), fig.canvas.manager is plt.get_current_fig_manager()
        # %%
        plt.clf(); print(fig.axes)
    """, alone=True),
    program("shown once", """
        import matplotlib.pyplot as plt
        # %%
        plt.figure(figsize=(2, 1)); plt.plot([2, 1])
        # %%
        print(plt.get_fignums())
        # %%
        def draw(): plt.figure(figsize=(1, 1)); plt.plot([3])
        # %%
        draw(); draw()
        # %%
        with plt.ioff(): quiet = plt.figure(figsize=(1, 1))
        # %%
        quiet
    """, alone=True),
    program("formats of figures", """
        import matplotlib.pyplot as plt
        # %%
        %config InlineBackend.figure_formats = ["jpeg"]
        # %%
        plt.figure(figsize=(1, 1)); plt.plot([1, 2]);
        # %%
        %config InlineBackend.figure_formats
    """, alone=True),
)  # fmt: skip
