"""Pickling and copying by the user's own code, and processes that it forks."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("pickle by reference to main", """
        import pickle
        class P:
            def __init__(self, v): self.v = v
        def double(x): return 2 * x
        data = pickle.dumps([P([1]), double, P])
        # %%
        p, f, cls = pickle.loads(data)
        # %%
        print(p.v, f is double, cls is P, isinstance(p, P), b"__main__" in data)
    """),
    program("pickle of what cannot be pickled", """
        import pickle
        def make():
            class Inner: pass
            return Inner()
        # %%
        pickle.dumps(make())
        # %%
        pickle.dumps(lambda: 1)
        # %%
        inner = make(); type(inner).__qualname__
    """),
    program("getstate, setstate and reduce", """
        import pickle
        class Counted:
            loads = 0
            def __init__(self, v): self.v, self.cache = v, {"big": 1}
            def __getstate__(self): return {"v": self.v, "cache": self.cache}
            def __setstate__(self, s): self.__dict__.update(s)
        class Pair:
            def __init__(self, a, b): self.a, self.b = a, b
            def __reduce__(self): return (Pair, (self.a, self.b))
        c, p = Counted([1]), Pair(1, [2])
        # %%
        c.v.append(2); p.b.append(3)
        # %%
        q = pickle.loads(pickle.dumps((c, p, c)))
        print(q[0].v, q[0] is q[2], q[1].b, c.v, p.b)
    """),
    program("copy and deepcopy", """
        import copy
        class T:
            def __init__(self): self.kids = [[1]]
            def __copy__(self): return "copied"
        t = T(); d = copy.deepcopy(t); l = [t.kids]
        # %%
        l2 = copy.copy(l); l3 = copy.deepcopy(l)
        t.kids[0].append(2)
        # %%
        print(d.kids, l2, l3, copy.copy(t), l2[0] is t.kids)
    """),
    program("fork pool", """
        import multiprocessing as mp
        offset = 100
        def work(n): return n + offset
        # %%
        with mp.get_context("fork").Pool(2) as pool: results = pool.map(work, range(4))
        # %%
        offset = 0
        with mp.get_context("fork").Pool(1) as pool: results += pool.map(work, [1])
        del pool
        # %%
        results
    """),
    program("forked process and queue", """
        import multiprocessing as mp
        seen = []
        def child(q, items): items.append("child"); q.put(items)
        # %%
        ctx = mp.get_context("fork"); q = ctx.SimpleQueue()
        proc = ctx.Process(target=child, args=(q, seen)); proc.start(); got = q.get(); proc.join(); code = proc.exitcode
        q.close(); proc.close(); del ctx, q, proc
        # %%
        print(got, seen, code)
    """),
    program("shelve and json files", """
        import json, shelve
        with shelve.open("shelf") as s: s["k"] = {"a": [1]}
        # %%
        with shelve.open("shelf", writeback=True) as s: s["k"]["a"].append(2)
        # %%
        with shelve.open("shelf") as s: value = s["k"]
        del s
        # %%
        json.dumps(value)
    """),
    program("pickler with persistent ids", """
        import io, pickle
        table = {"x": [1]}
        class Saver(pickle.Pickler):
            def persistent_id(self, obj): return "x" if obj is table["x"] else None
        class Loader(pickle.Unpickler):
            def persistent_load(self, pid): return table[pid]
        # %%
        out = io.BytesIO(); Saver(out).dump({"ref": table["x"]}); data = out.getvalue()
        # %%
        back = Loader(io.BytesIO(data)).load()
        # %%
        print(back["ref"] is table["x"])
    """),
)  # fmt: skip
