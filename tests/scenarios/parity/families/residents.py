"""Generators and other residents: kept warm; cold, named when they are read, with every other variable intact."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("generator", """
        squares = (n * n for n in range(5)); kept = [next(squares)]
        # %%
        next(squares)
        # %%
        kept.append(2); kept
    """, resident="squares"),
    program("generator function", """
        def count(start):
            while True:
                got = yield start
                start = start + 1 if got is None else got
        # %%
        g = count(5); first = next(g); notes = {"n": first}
        # %%
        g.send(10)
        # %%
        notes["m"] = next(count(7)); notes, first
    """, resident="g"),
    program("open file", """
        handle = open("data.txt", "w+"); handle.write("one\\ntwo\\n"); handle.flush(); size = [8]
        # %%
        size.append(handle.tell())
        # %%
        print(size[0], open("data.txt").read())
    """, resident="handle"),
    program("file inside a config", """
        shared = [1]
        cfg = {"log": {"file": open("log.txt", "w")}, "shared": shared}
        # %%
        cfg["shared"].append(2)
        # %%
        shared.append(3); shared[-1], "cfg" in globals()
    """, resident="cfg"),
    program("socket pair", """
        import socket
        left = socket.socketpair()[0]; limit = 5
        # %%
        left.fileno() > 0
        # %%
        limit
    """, resident="left"),
    program("sqlite connection", """
        import sqlite3
        rows = []
        db = sqlite3.connect(":memory:"); db.execute("create table t (a)"); db.execute("insert into t values (1)"); None
        # %%
        rows += db.execute("select a from t").fetchall()
        # %%
        len(rows) < 2, type(rows).__name__
    """, resident="db"),
    program("held lock", """
        import threading
        lock, free, total = threading.Lock(), threading.Lock(), [1]; lock.acquire();
        # %%
        lock.release()
        # %%
        with free: total.append(2)
        total
    """, resident="lock"),
    program("running thread", """
        import threading
        stop = threading.Event()
        names = ["a"]
        # %%
        thread = threading.Thread(target=threading.Event().wait, daemon=True); thread.start()
        # %%
        thread.is_alive()
        # %%
        names.append("b"); names, stop.is_set()
    """, resident="thread"),
    program("executor", """
        from concurrent.futures import ThreadPoolExecutor
        def work(n): return n * 2
        pool = ThreadPoolExecutor(1); done = list(pool.map(work, range(3)))
        # %%
        done += pool.map(work, [10])
        # %%
        done[:3], work(5)
    """, resident="pool"),
    program("map over a generator", """
        lazy = map(str.upper, (c for c in "abc")); heads = [next(lazy)]
        # %%
        heads.append(next(lazy))
        # %%
        heads[0]
    """, resident="lazy"),
    program("memoryview", """
        window = memoryview(bytearray(b"abcdef")); copy = bytes(window[2:4])
        # %%
        window[0] = 90
        # %%
        copy
    """, resident="window"),
    program("frame", """
        try: 1 / 0
        except ZeroDivisionError as e: frame = e.__traceback__.tb_frame; said = str(e)
        # %%
        frame.f_lineno
        # %%
        said
    """, resident="frame"),
    program("traceback", """
        try: 1 / 0
        except ZeroDivisionError as e: trace = e.__traceback__; said = str(e)
        # %%
        trace.tb_lineno, trace.tb_frame.f_globals is globals(), trace.tb_next
        # %%
        said
    """),
    program("an object that refuses", """
        class Proud:
            def __reduce_ex__(self, protocol): raise TypeError("I stay")
            def hi(self): return "hi"
        proud = Proud(); others = {"x": [1]}
        # %%
        proud.hi()
        # %%
        others["x"].append(2); print(others, Proud().hi())
    """, resident="proud"),
    program("resident deleted and bound anew", """
        g = (n for n in "ab"); other = [next(g)]
        # %%
        next(g)
        # %%
        g = iter([1, 2, 3]); del other[0]
        # %%
        next(g)
        # %%
        list(g), other
    """, resident="g"),
    program("function over a lost name", """
        stream = (n for n in range(3))
        def safe(): return "safe"
        def use(): return next(stream)
        # %%
        safe()
        # %%
        use()
        # %%
        safe(), use.__name__
    """, resident="stream"),
)  # fmt: skip
