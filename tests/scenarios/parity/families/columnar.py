"""Columns in Arrow's memory: texts and numbers of pandas, tables of pyarrow, frames of polars."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("texts of pandas in arrow's memory", """
        import pandas as pd
        df=pd.DataFrame({'a':range(6),'s':pd.Series(list('abcabc'),dtype='string[pyarrow]')}); s=df['s']; t=s
        # %%
        df.loc[2,'s']='zz'; print(df, s.tolist(), t is s)
        # %%
        s.iloc[0]=None; print(s, df, type(s.array).__name__)
        # %%
        df['u']=df.s.str.upper(); print(df.u.tolist(), df.groupby('s').a.sum())
        # %%
        part=df.iloc[1:3]; print(part, df.s.array._pa_array.num_chunks)
        # %%
        print(part, pd.concat([df, part]).s.tolist())
    """),
    program("texts of pandas as objects", """
        import pandas as pd
        pd.options.mode.string_storage='python'
        df=pd.DataFrame({'s':list('abcabc')}); s=df['s']; i=pd.Index(list('xyz'))
        # %%
        df.loc[2,'s']='zz'; print(df, s.tolist(), i)
        # %%
        print(type(s.array).__name__, s.dtype, s.str.upper().tolist(), i.dtype)
    """),
    program("numbers, lists and dates of pandas in arrow's memory", """
        import pandas as pd, pyarrow as pa
        s=pd.Series([1,2,None],dtype='int64[pyarrow]')
        l=pd.Series([[1,2],[3]],dtype=pd.ArrowDtype(pa.list_(pa.int64())))
        d=pd.Series(pd.date_range('2024',periods=3)).astype('timestamp[ns][pyarrow]'); v=s.array
        # %%
        s[0]=9; print(s, v, l, d)
        # %%
        print(s+1, l.list.len(), d.dt.year, s.array is v)
    """),
    program("tables, arrays and schemas of pyarrow", """
        import pyarrow as pa, pyarrow.compute as pc
        t=pa.table({'x':[1,2,3],'y':['a','b',None]}); b=t; a=pa.array(range(1000)); part=a[10:20]
        coded=pa.array(['a','b','a']).dictionary_encode(); scalar=pa.scalar(5); batch=pa.record_batch({'q':[1,2]})
        # %%
        print(b is t, t.schema, pc.sum(t['x']), t.filter(pc.greater(t['x'],1)).to_pydict())
        # %%
        print(part.to_pylist(), part.offset, coded.type, coded.to_pylist(), scalar, batch.to_pydict())
        # %%
        t=t.append_column('z',t['x']); print(b.column_names, t.column_names)
    """),
    program("an array of pyarrow that looks into one of numpy", """
        import pyarrow as pa, numpy as np
        n=np.arange(20_000.0); a=pa.array(n)
        # %%
        print(a[3], len(a))
        # %%
        m=a.to_numpy(); print(m[3], m.flags.writeable)
    """),
    program("frames of polars", """
        import polars as pl
        df=pl.DataFrame({'a':[1,2,3],'b':['x','y',None],'c':pl.Series(['u','v','u'],dtype=pl.Categorical),'l':[[1],[],[2,3]]})
        g=df; s=df['a']
        # %%
        df[0,'a']=99; print(df, g is df, s)
        # %%
        df=df.with_columns((pl.col('a')*2).alias('d')); print(df, g.columns)
        # %%
        print(df.group_by('b').agg(pl.col('d').sum()).sort('d'), df.schema)
        # %%
        lazy=df.lazy().filter(pl.col('a')>2); e=pl.col('a')+1
        # %%
        print(lazy.collect(), df.select(e))
    """),
    program("series of polars, and what they are known to be sorted by", """
        import polars as pl
        s=pl.Series('s',range(20_000)).sort(descending=True); t=pl.Series('',[1.5,None,float('nan')]); same=s
        # %%
        print(s.flags, s.name, t, same is s)
        # %%
        s[0]=-1; print(same[0], s.flags, len(s))
        # %%
        print(s.rename('u').head(2), t.is_nan().to_list())
    """),
)  # fmt: skip
