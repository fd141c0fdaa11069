"""Frames, series, indexes and arrays that look into one memory, and copy when one is written to."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("the values of a column go on seeing it", """
        import pandas as pd, numpy as np
        df=pd.DataFrame({'x':[1.,2,3],'y':[4.,5,6]}); v=df['x'].to_numpy()
        # %%
        df.loc[0,'x']=50
        # %%
        print(v, df, v.flags.writeable)
    """),
    program("two parts of one column are apart once one is written to", """
        import pandas as pd
        df=pd.DataFrame({'x':[1.,2,3]}); s1=df['x']; s2=df['x']
        # %%
        s1.iloc[0]=9
        # %%
        print(s1.tolist(), s2.tolist(), df.x.tolist())
    """),
    program("parts of a frame in a list", """
        import pandas as pd
        df=pd.DataFrame({'x':[1.,2,3]}); L=[df, df['x'], df['x'], df[['x']]]
        # %%
        L[1].iloc[0]=9
        # %%
        print(L)
        # %%
        L[0].iloc[1,0]=7
        # %%
        print(L)
    """),
    program("a frame and the array that it was made of", """
        import numpy as np, pandas as pd
        a=np.zeros((4,2)); f=pd.DataFrame(a,copy=False,columns=list('ab'))
        # %%
        a[0,0]=5; print(f)
        # %%
        f.iloc[1,1]=6; print(a)
        # %%
        print(np.shares_memory(f.to_numpy(),a))
    """),
    program("a series and the array that it was made of", """
        import numpy as np, pandas as pd
        a=np.zeros(4); s=pd.Series(a,copy=False)
        # %%
        a[0]=5; print(s.tolist())
        # %%
        s.iloc[1]=6; print(a)
    """),
    program("a series made of an index of dates", """
        import pandas as pd, numpy as np
        d=pd.date_range('2024',periods=3); s=pd.Series(d); v=s.to_numpy()
        # %%
        s.iloc[0]=pd.Timestamp('2020'); print(v, s, d)
    """),
    program("shallow copies of texts", """
        import pandas as pd
        s=pd.Series(['a','b']); t=s; u=s.copy(deep=False)
        # %%
        t.iloc[0]='z'; print(s.tolist(),u.tolist())
    """),
    program("arrays of a frame after writes in place and anew", """
        import pandas as pd, numpy as np
        df=pd.DataFrame({'x':np.arange(3.),'y':np.arange(3.)}); a=df.to_numpy(); b=df['y'].to_numpy()
        # %%
        df.iloc[2,1]=8.; print(a,b)
        # %%
        df['y']+=1; print(a,b,df)
    """),
    program("an array that became a column is apart", """
        import pandas as pd, numpy as np
        a=np.arange(3.); df=pd.DataFrame({'x':[1,2,3]}); df['a']=a
        # %%
        a[0]=10; print(df)
        # %%
        df.loc[1,'a']=5; print(a)
    """),
    program("a slice and its frame", """
        import pandas as pd
        df=pd.DataFrame({'x':range(5)}); part=df[1:3]; col=df['x']
        # %%
        part.iloc[0,0]=99; print(df, part)
        # %%
        df.iloc[1,0]=-1; print(df,part,col.tolist())
    """),
    program("groups see later writes to their frame", """
        import pandas as pd
        df=pd.DataFrame({'k':[1,1,2],'x':[1.,2,3]}); g=df.groupby('k')
        # %%
        df.loc[0,'x']=100
        # %%
        print(g.x.sum())
        # %%
        print(g.obj is df)
    """),
    program("the array below a series outlives it", """
        import pandas as pd, numpy as np
        v=np.arange(3.); s=pd.Series(v, copy=False); w=s.values
        # %%
        v[1]=3; print(w, s.tolist())
        # %%
        s=s+1; v[0]=7; print(w, s.tolist())
    """),
    program("a pipeline of frames that share their columns", """
        import pandas as pd
        raw = pd.DataFrame({"k": ["a", "b", "a"], "v": [1.0, 2.0, 3.0], "n": [1, 2, 3]})
        # %%
        named = raw.rename(columns={"v": "value"}); wide = named.assign(twice=named["value"] * 2)
        kept = wide.drop(columns="n")
        # %%
        kept.loc[0, "value"] = -1.0; raw.loc[1, "n"] = 50
        # %%
        print(raw, named, wide, kept)
        # %%
        wide["k"] = wide["k"].str.upper(); kept.iloc[2, 0] = "z"
        print(raw["k"].tolist(), kept["k"].tolist(), wide["k"].tolist())
    """),
    program("a read-only view and the array below it", """
        import numpy as np
        locked = (below := np.arange(4)).view(); locked.flags.writeable = False
        # %%
        below[1] = 7; print(locked, locked.flags.writeable, below.flags.writeable)
        # %%
        below += 1; print(locked, locked.base is below)
    """),
    program("a slice alone does not keep the rest of its frame", """
        import numpy as np, pandas as pd
        part = pd.DataFrame(np.arange(20.0).reshape(10, 2), columns=list("ab"))[2:4]
        # %%
        part.iloc[0, 0] = 9; other = part["b"]
        # %%
        other.iloc[0] = 8; print(part, other.tolist())
    """),
)  # fmt: skip
