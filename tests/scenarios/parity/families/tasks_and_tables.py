"""Tasks and generators over cells; numpy's generators; pandas' own types."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("task that ends in a later cell", """
        import asyncio
        log = []
        async def work():
            for n in range(3): log.append(n); await asyncio.sleep(0)
            return "done"
        task = asyncio.ensure_future(work())
        # %%
        other = 5
        # %%
        print(other)
    """),
    program("event and queue of asyncio", """
        import asyncio
        queue = asyncio.Queue(maxsize=3); event = asyncio.Event(); kept = 1
        # %%
        queue.put_nowait("a"); queue.put_nowait("b"); event.set()
        # %%
        print(await queue.get(), queue.qsize(), event.is_set())
        # %%
        kept
    """),
    program("generator that was used", """
        def count():
            n = 0
            while True: n += (yield n) or 1
        gen = count(); total = 0
        # %%
        next(gen), gen.send(5)
        # %%
        print(total)
    """, resident="gen"),
    program("generator expression and alias", """
        data = [1, 2, 3]; lazy = (x * 10 for x in data)
        # %%
        data.append(4)
        # %%
        list(lazy)
        # %%
        print(data)
    """, resident="lazy"),
    program("generators of numpy", """
        import numpy as np
        rng = np.random.default_rng(5); alias = rng; old = np.random.RandomState(3)
        # %%
        rng.integers(0, 100, 3).tolist(), old.rand()
        # %%
        kids = rng.spawn(2); alias.normal(), kids[0].random()
        # %%
        print(rng.random(), kids[1].random(), old.randint(100), alias is rng, rng.bit_generator)
    """),
    program("categories and ordered types", """
        import pandas as pd
        sizes = pd.CategoricalDtype(["S", "M", "L"], ordered=True)
        frame = pd.DataFrame({"size": pd.Series(["M", "S", "L", None], dtype=sizes), "n": [1, 2, 3, 4]})
        # %%
        frame["size"] = frame["size"].cat.add_categories("XL"); frame.loc[3, "size"] = "XL"
        # %%
        print(frame.sort_values("size", ascending=False), frame["size"].dtype, frame["size"].max())
    """),
    program("multi index and attributes", """
        import pandas as pd
        index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["k", "n"])
        frame = pd.DataFrame({"v": range(4)}, index=index); frame.attrs["unit"] = "kg"
        # %%
        part = frame.loc["a"]; frame.loc[("b", 1), "v"] = 9; frame.attrs["by"] = ["me"]
        # %%
        frame.attrs["by"].append("you"); print(frame, frame.attrs, part.attrs, frame.index.names)
        # %%
        frame.unstack("n")
    """),
    program("extension arrays", """
        import pandas as pd
        ints = pd.array([1, None, 3], dtype="Int64"); text = pd.array(["a", None], dtype="string")
        when = pd.period_range("2024-01", periods=3, freq="M"); spans = pd.interval_range(0, 3)
        # %%
        ints[1] = 7; text[1] = "b"
        # %%
        print(ints, text, when, spans, ints.sum(), when[0] + 1)
        # %%
        pd.Series(pd.date_range("2024-03-30", periods=2, tz="Europe/Berlin")).dt.tz
    """),
    program("frames that share a column's memory", """
        import numpy as np, pandas as pd
        values = np.arange(3.0); frame = pd.DataFrame({"v": values}, copy=False)
        # %%
        values[0] = 50
        # %%
        print(frame["v"].tolist(), np.shares_memory(frame["v"].to_numpy(), values))
    """),
    program("groups and windows kept", """
        import pandas as pd
        frame = pd.DataFrame({"k": list("aabb"), "v": [1, 2, 3, 4]})
        groups = frame.groupby("k"); window = frame["v"].rolling(2)
        # %%
        groups["v"].sum(), window.sum().tolist()
        # %%
        frame.loc[0, "v"] = 100
        # %%
        print(groups["v"].sum().tolist(), window.mean().tolist(), groups.ngroups)
    """),
)  # fmt: skip
