"""What a cell leaves behind when it is done: closed files, ended generators and threads, finalizers that wait."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("closed files", """
        with open("notes.txt", "w") as out:
            out.write("one\\n")
        with open("notes.txt", "rb") as raw:
            first = raw.read(1)
        with open("notes.txt", "r+", encoding="latin-1") as both:
            text = both.read()
        # %%
        print(out, raw, both, out.closed, raw.raw, both.buffer.raw.closed, out.mode, both.errors)
        # %%
        again = open(out.name); again.read(), again.close()
        # %%
        print(again.closed, first, text, raw is raw.raw)
        # %%
        out.write("more")
    """),
    program("readers and writers of csv", """
        import csv
        with open("rows.csv", "w", newline="") as out:
            writer = csv.writer(out, delimiter=";"); writer.writerows([["a", "b"], [1, "x;y"]])
        with open("rows.csv", newline="") as source:
            reader = csv.reader(source, delimiter=";"); rows = [*reader]
        lines = csv.reader(["1,2", "3,4", "5,6"]); head = next(lines)
        # %%
        print(rows, reader.line_num, writer.dialect.delimiter, head, next(lines), lines.line_num)
        # %%
        print(next(lines), lines.line_num, [*lines], lines.line_num)
        # %%
        import io
        memory = io.StringIO(); writing = csv.DictWriter(memory, ["k"]); writing.writeheader()
        # %%
        writing.writerow({"k": 1}); print(repr(memory.getvalue()))
        # %%
        next(reader)
    """),
    program("generators and coroutines that ended", """
        def three():
            yield from range(3)
        numbers, squares = three(), (i * i for i in range(3))
        total = sum(numbers) + sum(squares)
        async def answer():
            return 42
        waiting = answer(); got = await waiting
        # %%
        print([*numbers], [*squares], numbers.__name__, squares.__qualname__, waiting.__name__, got)
        # %%
        await waiting
    """),
    program("threads, pools and processes that ended", """
        import subprocess, sys, threading
        from concurrent.futures import ThreadPoolExecutor
        class Worker(threading.Thread):
            def run(self):
                self.found = [1, 2]
        worker = Worker(name="w", daemon=True); worker.start(); worker.join()
        same = worker.found
        with ThreadPoolExecutor(2) as pool:
            future = pool.submit(pow, 2, 10)
        child = subprocess.Popen([sys.executable, "-c", "print(6)"], stdout=subprocess.PIPE); out = child.communicate()
        # %%
        print(type(worker).__name__, worker.found is same, worker.is_alive(), worker.name, worker.daemon)
        # %%
        print(future.result(), future.done(), child.returncode, child.poll(), out, child.stdout.closed)
        # %%
        worker.join(); pool.submit(print)
    """),
    program("what has a value in each thread, and a layout of bytes", """
        import socket, struct, threading
        mine = threading.local(); mine.count = [1]; shared = mine.count
        pair = struct.Struct("<hd"); closed = socket.socket(); closed.close()
        # %%
        mine.count.append(2); mine.more = {"a": 1}
        # %%
        print(mine.count is shared, mine.count, mine.more, pair.unpack(pair.pack(3, 1.5)), pair.size, closed)
        # %%
        def other():
            print(hasattr(mine, "count"))
        thread = threading.Thread(target=other); thread.start(); thread.join()
        # %%
        closed.send(b"x")
    """),
    program("a temporary directory", """
        import os, tempfile
        folder = tempfile.TemporaryDirectory(); path = folder.name
        # %%
        with open(os.path.join(path, "kept"), "w") as file: file.write("here")
        # %%
        print(open(os.path.join(path, "kept")).read(), folder._finalizer.alive)
        # %%
        folder.cleanup()
        # %%
        print(os.path.exists(path), folder._finalizer.alive)
    """),
    program("a finalizer with a name", """
        import weakref
        class Res: pass
        res = Res(); last = weakref.finalize(res, print, "gone", end="!\\n")
        # %%
        print(last.alive, last.peek()[0] is res, last.peek()[2:])
        # %%
        del res
        # %%
        print(last.alive)
    """),
    program("a finalizer that was called, and one that was detached", """
        import weakref
        class Res: pass
        a, b = Res(), Res(); log = []
        one, two = weakref.finalize(a, log.append, 1), weakref.finalize(b, log.append, 2)
        # %%
        one(); two.detach()
        # %%
        del a, b
        print(log, one.alive, two.alive)
    """),
)  # fmt: skip
