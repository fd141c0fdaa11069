"""numpy: views write through, whatever their order, and big arrays keep their bytes."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("view and base", """
        import numpy as np
        a = np.arange(10.0)
        v = a[2:5]
        # %%
        v[0] = 99
        a[3] = -1
        # %%
        a, v
        # %%
        print(v.base is a, np.shares_memory(a, v), v.flags.owndata)
    """),
    program("transposed and reversed views", """
        import numpy as np
        m = np.arange(12).reshape(3, 4)
        t = m.T[::-1]
        row = t[1:]
        # %%
        row[0, 0] = 50; m[2] = 0
        # %%
        t
        # %%
        print(m, row.strides == t.strides, t.flags.c_contiguous)
    """),
    program("one megabyte through a view", """
        import numpy as np
        big = np.zeros(131072)
        every = big[::1000]
        tail = big[-5:].reshape(5, 1)
        # %%
        every[:] = 1; tail += 2
        # %%
        big[0] = 7
        # %%
        print(big.sum(), every[:3], tail.ravel(), big.nbytes)
        # %%
        big *= 2; float(every.sum()), float(tail.sum())
    """),
    program("dtypes and structured arrays", """
        import numpy as np
        r = np.array([(1, 2.0, "ab"), (3, 4.0, "cd")], dtype=[("a", "i4"), ("b", "f8"), ("s", "U4")])
        b = r["b"]
        d = np.array(["2024-01-01", "NaT"], dtype="M8[D]")
        # %%
        b[1] = 9; r["s"][0] = "zz"
        # %%
        r
        # %%
        print(d, d + np.timedelta64(1, "D"), r[r["b"] > 5], r.dtype)
    """),
    program("object arrays", """
        import numpy as np
        inner = [1]
        o = np.array([inner, None, "x"], dtype=object)
        # %%
        o[0].append(2); o[1] = inner
        # %%
        print(inner, o[0] is o[1] is inner, o)
    """),
    program("read-only and broadcast", """
        import numpy as np
        a = np.arange(3); a.flags.writeable = False
        w = np.broadcast_to(np.arange(2), (3, 2))
        # %%
        a[0] = 5
        # %%
        print(a, w.sum(), w.flags.writeable, a.flags.writeable)
    """),
    program("random generators", """
        import numpy as np
        rng = np.random.default_rng(7)
        old = np.random.RandomState(3)
        # %%
        rng.integers(100, size=3), old.rand()
        # %%
        copy = rng; copy.normal()
        # %%
        print(rng.normal(), old.randint(10, size=4), copy is rng)
    """),
    program("masked arrays and matrices", """
        import numpy as np
        m = np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0])
        # %%
        m[0] = np.ma.masked; m[1] = 8
        # %%
        m
        # %%
        print(m.mean(), m.filled(-1), m.mask)
    """),
    program("records, masks and matrices that share memory", """
        import numpy as np
        table = np.zeros(3, dtype=[("n", "i4"), ("v", "f8")]); records = table.view(np.recarray)
        values = np.arange(4.0); masked = np.ma.array(values, mask=[0, 1, 0, 0])
        square = np.asmatrix(values.reshape(2, 2))
        # %%
        records.v[1] = 5; masked[0] = 7; square[1, 1] = -1
        # %%
        table["n"] = [3, 2, 1]; values[2] = 50; print(table, records.n, values, masked, square)
        # %%
        print(type(records) is np.recarray, records[["v"]].tolist(), np.shares_memory(square, masked.data))
    """),
    program("a subclass with attributes", """
        import numpy as np
        class Signal(np.ndarray):
            def __array_finalize__(self, source): self.rate = getattr(source, "rate", 1)
        raw = np.arange(3.0); signal = raw.view(Signal); signal.rate = 44_100; half = signal[1:]
        # %%
        half[0] = 9; half.rate = 22_050
        # %%
        print(raw, signal, signal.rate, half.rate, type(half * 2).__name__, (half * 2).rate)
    """),
    program("an array mapped from a file", """
        import numpy as np
        mapped = np.memmap("data.bin", "i4", "w+", shape=(2, 3)); row = mapped[1]
        # %%
        row[2] = 7; mapped[0, 0] = 1
        # %%
        print(mapped.tolist(), row.tolist(), np.fromfile("data.bin", "i4"), type(row).__name__, mapped.mode)
        # %%
        np.asarray(mapped)[0, 1] = 5; print(np.fromfile("data.bin", "i4"), mapped.sum(), np.shares_memory(row, mapped))
    """),
    program("arrays over buffers that are none", """
        import array, numpy as np
        held = array.array("d", [1, 2, 3]); seen = np.frombuffer(held)
        raw = bytearray(8); whole = np.frombuffer(raw, "i8")
        # %%
        held[0] = 9; whole[0] = 258
        # %%
        seen[1] = 4; raw[7] = 1; print(held, seen, raw, whole)
    """),
    program("function that writes into a global array", """
        import numpy as np
        grid = np.zeros((4, 4), dtype=int)
        def mark(i, j, to=grid): to[i, j] += 1
        # %%
        mark(1, 2); mark(1, 2)
        # %%
        np.add.at(grid, (0, 0), 5)
        # %%
        print(grid, mark.__defaults__[0] is grid)
    """),
    program("out, resize and sort in place", """
        import numpy as np
        a = np.array([3, 1, 2]); b = np.empty(3, dtype=int)
        # %%
        np.multiply(a, 2, out=b); a.sort()
        # %%
        b.resize((5,), refcheck=False); np.random.RandomState(0).shuffle(a)
        # %%
        print(a, b)
    """),
    program("array over a bytearray", """
        import numpy as np
        raw = bytearray(16)
        a = np.frombuffer(raw, "<i4")
        # %%
        a[1] = 258
        # %%
        print(raw[4], raw[5], a)
    """),
)  # fmt: skip
