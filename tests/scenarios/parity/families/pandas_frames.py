"""pandas: frames keep dtypes, indexes, attributes, aliases, and copy on write."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("frame and alias", """
        import pandas as pd
        df = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
        same = df
        # %%
        df["c"] = df.a * 2
        # %%
        same
        # %%
        same.drop(columns="b", inplace=True); print(df is same, list(df.columns), df.dtypes.to_dict())
    """),
    program("copy on write", """
        import pandas as pd
        df = pd.DataFrame({"a": [1, 2], "b": [3.0, 4.0]})
        s = df["a"]; shallow = df.copy(deep=False)
        # %%
        df.loc[0, "a"] = 100
        # %%
        shallow.iloc[1, 1] = -1
        # %%
        print(s.tolist(), df.values.tolist(), shallow.values.tolist())
    """),
    program("many dtypes", """
        import pandas as pd
        df = pd.DataFrame({
            "i": pd.array([1, None], dtype="Int64"), "s": ["x", None], "c": pd.Categorical(["u", "v"]),
            "t": pd.date_range("2020", periods=2, tz="UTC"), "o": [[1], {"k": 2}], "d": pd.to_timedelta([1, 2], "s"),
        }, index=["r", "q"])
        # %%
        df.loc["r", "i"] = 9; df.at["q", "s"] = "new"; df.at["r", "o"].append(2)
        # %%
        df
        # %%
        print(df.dtypes, df.c.cat.categories.tolist(), df.t.dt.tz)
    """),
    program("groupby, merge and pivot", """
        import pandas as pd
        sales = pd.DataFrame({"who": list("abab"), "what": list("xxyy"), "n": [1, 2, 3, 4]})
        # %%
        totals = sales.groupby("who")["n"].agg(["sum", "mean"])
        totals
        # %%
        wide = sales.pivot(index="who", columns="what", values="n")
        sales.loc[0, "n"] = 50
        # %%
        print(wide, sales.merge(totals, left_on="who", right_index=True), sep="\\n")
    """),
    program("groupby object and rolling kept", """
        import pandas as pd
        df = pd.DataFrame({"k": list("aab"), "v": [1.0, 2.0, 4.0]})
        groups = df.groupby("k"); window = df.v.rolling(2)
        # %%
        print(groups.v.sum(), window.mean())
        # %%
        groups.get_group("a")
    """),
    program("MultiIndex and attributes", """
        import pandas as pd
        index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["l", "n"])
        s = pd.Series(range(4), index=index, name="v"); s.attrs["unit"] = "m"
        # %%
        s.loc[("a", 2)] = 10
        # %%
        s
        # %%
        print(s.unstack(), s.attrs, s.index.names, s.xs("b").tolist())
    """),
    program("styled and html", """
        import pandas as pd
        df = pd.DataFrame({"x": [1.5, 2.5]}, index=pd.Index(["p", "q"], name="id"))
        # %%
        df.loc["r"] = 3.5
        # %%
        df
        # %%
        display(df.x, df.to_dict())
    """),
    program("apply with a function of the notebook", """
        import pandas as pd
        factor = 2
        def scale(v): return v * factor
        df = pd.DataFrame({"v": [1, 2]})
        # %%
        df["w"] = df.v.apply(scale)
        # %%
        factor = 10
        df["w"] = df.v.map(scale)
        # %%
        df.eval("z = v + w", inplace=True); df.query("v > @df.v.min()")
    """),
    program("text and missing values", """
        import pandas as pd
        names = pd.Series(["Ada Lovelace", None, "Alan Turing"])
        # %%
        names[1] = "Grace Hopper"
        parts = names.str.split(" ", expand=True)
        # %%
        parts.columns = ["first", "last"]; parts.loc[3] = [None, "X"]
        # %%
        print(parts, parts.isna().sum().to_dict(), names.dtype)
    """),
)  # fmt: skip
