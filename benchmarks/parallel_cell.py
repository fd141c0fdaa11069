"""Fan-out from a notebook: `%%parallel` beside what a notebook's user has, in real kernels, in one run, in turn.

    python benchmarks/parallel_cell.py [--quick] [--seed N] [--only NAME,NAME]

Rows of time: set-up and first fan-out in a fresh kernel, a fan-out cell over 8 items of about a millisecond, from an
interrupt to the cell's reply, the next fan-out after it, a fan-out in which one task's process is killed, a cold Python
to the first result of another process, and the memory of an idle pool. Of ours alone, fan-outs of tasks that do
nothing; beside them, some whose body asks for the number of its process, so that each task has one. Then a table of
behaviour, yes or no, each found by a cell that does it. Ours is a kernel of lambdakernel, every peer is in an
ipykernel, and each is used as its own guide shows; two workers each. Times are from a request to its reply and idle.
The order is drawn anew each round. What is not installed is left out, and said so.

Where ours loses its time: the body is looked at before, its process after each task, and processes join what cells
have changed. Where a body is not known to leave no trace, each task has a process of its own, forked from one that has
loaded what the body reaches. A pool that keeps its workers, as `lambdakernel.Executor` does, pays for none of it; its
workers know nothing of the notebook that they were not sent.

Ours is given `--retries 1` where a task is killed: a lost task runs again only if its user says that it may.
`ProcessPoolExecutor` is made anew in each cell: workers forked earlier know nothing that later cells define.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
from _kernels import PEERS, Notebook, Peer, excused, peers
from _pools import PEERS as POOLS
from _pools import US, installed, tools_of_this_python
from _turns import Turns, parser_of

from tests.kernels import MARKER, eventually, processes_marked

FIRST, FAN_OUT = "set-up and first fan-out in a kernel", "fan-out cell over 8 items"
INTERRUPT, NEXT, KILLED = "interrupt to the cell's reply", "next fan-out after an interrupt", "a fan-out with a kill"
COLD, MEMORY, LEFT = "cold python to first remote result", "memory of an idle pool, MB", "no process left after exit"
SLOW = ("ipyparallel", "Dask", "Ray")
EACH, OF_ITS_OWN = "a process for each task", "import os\nos.getpid()\nitem * item"
WORK = "total = 0\nfor n in range(12_000): total += n * item\ntotal"
ENDLESS = (
    "import time\nfor _ in range(300):\n    with open({path!r}, 'a') as f: _ = f.write('.')\n    time.sleep(0.1)\nitem"
)
KILL = (
    "import os, time\nif item == 3 and not os.path.exists({path!r}):\n"
    "    with open({path!r}, 'w'): pass\n    os.kill(os.getpid(), 9)\nitem * 2"
)
Answers = dict[str, dict[str, str]]
"""For each question, by peer, `yes` or `no` with what was seen."""


def first(bench: Turns, chosen: dict[str, Peer], folder: str) -> None:
    times: dict[str, list[float]] = {}
    failed: set[str] = set()
    for turn in range(2 if bench.quick else 5):
        for name in bench.rng.sample(list(chosen), len(chosen)):
            if name in failed or (turn and name in SLOW and bench.quick):
                continue
            with Notebook(chosen[name], f"{folder}/first-{name}-{turn}", setup=False) as book, excused(name, failed):
                book.run("pass")
                setup, cell = chosen[name].setup, book.cell(WORK, 8)
                began = time.perf_counter()
                book.run(f"{setup}\n{cell}" if chosen[name].call else cell)
                times.setdefault(name, []).append((time.perf_counter() - began) * 1e6)
    bench.show(FIRST, {name: us for name, us in times.items() if name != "plain loop"})
    bench.below(FIRST, 50.0)
    bench.ahead(FIRST)


def cells(bench: Turns, chosen: dict[str, Peer], folder: str, answers: Answers) -> None:
    books: dict[str, Notebook] = {}
    failed: set[str] = set()
    try:
        for name, peer in chosen.items():
            with excused(name, failed):
                book = Notebook(peer, f"{folder}/{name}", setup=False)
                try:
                    book.run(f"{peer.setup or 'pass'}\n{book.cell(WORK, 8)}" if peer.call else book.cell(WORK, 8))
                except BaseException:
                    book.kernel.close()
                    raise
                books[name] = book
        bench.turns(FAN_OUT, {name: _fan_out(book) for name, book in books.items()}, 40)
        bench.ahead(FAN_OUT)
        for name, book in books.items():
            if name != "plain loop":
                with excused(name, failed):
                    behaviour(book, name, answers)
        interrupts(bench, books, folder, answers, failed)
        kills(bench, {name: book for name, book in books.items() if name not in failed}, folder, answers)
    finally:
        for book in books.values():
            book.__exit__()


def _fan_out(book: Notebook) -> Callable[[], object]:
    return lambda: book.fan_out(WORK, 8)


def short(bench: Turns, folder: str) -> None:
    with Notebook(PEERS[US], f"{folder}/short") as book:
        for items in (8, 200, 1000):
            runs = {US: partial(book.fan_out, "item * item", items), EACH: partial(book.fan_out, OF_ITS_OWN, items)}
            bench.turns(f"{items} tasks that do nothing", runs, 20)
            bench.ahead(f"{items} tasks that do nothing")


def behaviour(book: Notebook, name: str, answers: Answers) -> None:
    def answer(question: str, is_so: bool) -> None:
        answers.setdefault(question, {})[name] = "yes" if is_so else "no"

    shown = book.run(book.cell("import time\ntime.sleep(0.7)\nitem", 4))
    answer("progress by default", any(m["msg_type"] in ("display_data", "stream") for m in shown.messages))
    failed = book.run(book.cell("low = item - 2\n1 / low", 4), fails=True)
    traceback = "\n".join(failed.reply.get("traceback", []))
    answer("the traceback shows the failing line", "1 / low" in _plain(traceback))
    printed = book.run(book.cell("print('said by', 40 + item)\nitem", 4))
    answer("print() in a task reaches its cell", all(f"said by {40 + n}" in printed.shown for n in range(4)))
    book.run("import builtins\nfactor = [3]\ndef by(item):\n    return item * factor[0]")
    read = book.run(book.cell("by(item)", 4), fails=True)
    answer("a task reads a notebook global", read.status == "ok" and book.value("found") == [0, 3, 6, 9])
    book.run("factor[0] = 5")
    again = book.run(book.cell("by(item)", 4), fails=True)
    answer("and sees a later cell's change of it", again.status == "ok" and book.value("found") == [0, 5, 10, 15])
    cell = book.cell("made = item * 7\nmade", 4)
    book.run(cell.replace("-> found", "-> made"))
    is_bound = book.value("'made' in globals() and made == [0, 7, 14, 21]")
    answer("a name assigned in it is a variable afterwards", bool(is_bound))


def _plain(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def interrupts(bench: Turns, books: dict[str, Notebook], folder: str, answers: Answers, failed: set[str]) -> None:
    replies: dict[str, list[float]] = {}
    nexts: dict[str, list[float]] = {}
    for turn in range(2 if bench.quick else 5):
        for name in bench.rng.sample(list(books), len(books)):
            book = books[name]
            if name in {"plain loop", *failed} or (turn and name in SLOW and bench.quick):
                continue
            with excused(name, failed):
                _interrupt(book, name, f"{folder}/beats-{name}-{turn}", replies, nexts, answers)
    bench.show(INTERRUPT, replies)
    bench.show(NEXT, nexts)
    bench.below(INTERRUPT, 100.0)
    bench.ahead(NEXT)


def _interrupt(
    book: Notebook,
    name: str,
    path: str,
    replies: dict[str, list[float]],
    nexts: dict[str, list[float]],
    answers: Answers,
) -> None:
    sent = book.kernel.client.send(book.cell(ENDLESS.format(path=path), 2))
    eventually(lambda path=path: os.path.exists(path) and os.path.getsize(path) >= 4, 60, "tasks that run")
    began = time.perf_counter()
    book.kernel.manager.interrupt_kernel()
    book.kernel.client.result(sent, 60)
    replies.setdefault(name, []).append((time.perf_counter() - began) * 1e6)
    time.sleep(0.3)
    size = os.path.getsize(path)
    time.sleep(0.7)
    stopped = os.path.getsize(path) == size
    known = answers.setdefault("an interrupt stops the workers too", {})
    known[name] = "yes" if stopped and known.get(name, "yes") == "yes" else "no"
    began = time.perf_counter()
    book.run(book.cell(WORK, 8))
    nexts.setdefault(name, []).append((time.perf_counter() - began) * 1e6)


def kills(bench: Turns, books: dict[str, Notebook], folder: str, answers: Answers) -> None:
    """Last: after it some peers do not work any more. A peer that does not answer within a minute has hung."""
    times: dict[str, list[float]] = {}
    for name, book in books.items():
        if name == "plain loop":
            continue
        path = f"{folder}/killed-{name}"
        if not book.kernel.manager.is_alive():
            continue
        code = book.cell(KILL.format(path=path), 8, "--retries 1" if not book.peer.call else "")
        survived, began = False, time.perf_counter()
        try:
            result = book.kernel.run(code, 60)
            survived = result.status == "ok" and book.value("found") == [2 * n for n in range(8)]
        except TimeoutError:
            book.kernel.manager.interrupt_kernel()
        if survived:
            times[name] = [(time.perf_counter() - began) * 1e6]
        answers.setdefault("a fan-out survives the death of a worker", {})[name] = "yes" if survived else "no"
        try:
            after = book.kernel.run(book.cell("item + 1", 4), 60)
            works = after.status == "ok" and book.value("found") == [1, 2, 3, 4]
        except TimeoutError:
            works = False
        answers.setdefault("the next fan-out works after that", {})[name] = "yes" if works else "no"
    bench.show(KILLED, times)
    bench.below(KILLED, 1000.0)


def programs(bench: Turns, names: list[str], answers: Answers) -> None:
    """Programs that start a pool, get one result, and end without closing it."""
    cold: dict[str, list[float]] = {}
    memory: dict[str, list[float]] = {}
    for _ in range(2 if bench.quick else 4):
        for name in bench.rng.sample(names, len(names)):
            if name in SLOW and len(cold.get(name, ())) >= (1 if bench.quick else 2):
                continue
            marker = uuid.uuid4().hex
            command = [sys.executable, str(Path(__file__).with_name("_pools.py")), name]
            began = time.perf_counter()
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, MARKER: marker},
                start_new_session=True,
            ) as program:
                assert program.stdout is not None and program.stdin is not None
                while (line := program.stdout.readline()) and line.strip() != b"ready":
                    continue
                cold.setdefault(name, []).append((time.perf_counter() - began) * 1e6)
                time.sleep(1.0)
                memory.setdefault(name, []).append(_pss_mb(processes_marked(marker)) * 1000)
                program.stdin.close()
                program.wait(60)
                time.sleep(2.0)
                left = processes_marked(marker)
                known = answers.setdefault(LEFT, {})
                known[name] = f"no: {len(left)}" if left else known.get(name, "yes")
                for process in left:
                    process.kill()
    bench.show(COLD, cold)
    bench.show(MEMORY, memory)
    bench.ahead(COLD)
    bench.ahead(MEMORY)


def _pss_mb(found: list[psutil.Process]) -> float:
    total = 0
    for process in found:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 1e6


def show_answers(bench: Turns, answers: Answers) -> None:
    names = [name for name in PEERS if any(name in known for known in answers.values())]
    names += [name for name in POOLS if name not in names and any(name in known for known in answers.values())]
    print(f"\n{'behaviour':<48}" + "".join(f"{name[:13]:>14}" for name in names))
    for question, known in answers.items():
        print(f"  {question:<46}" + "".join(f"{known.get(name, '-'):>14}" for name in names))
        ours = known.get(US, "not measured")
        bench.holds(question, ours, "yes", ours == "yes")


def main() -> None:
    given = parser_of(__doc__).parse_args()
    tools_of_this_python()
    bench = Turns(given.seed, quick=given.quick)
    wanted = given.only.split(",") if given.only else list({**PEERS, **POOLS})
    chosen = peers(name for name in wanted if name in PEERS)
    programs_of = list(installed(name for name in wanted if name in POOLS))
    answers: Answers = {}
    with tempfile.TemporaryDirectory(prefix="lk-bench-", ignore_cleanup_errors=True) as folder:
        first(bench, chosen, folder)
        cells(bench, chosen, folder, answers)
        if US in chosen:
            short(bench, folder)
    programs(bench, programs_of, answers)
    show_answers(bench, answers)
    bench.goals()


if __name__ == "__main__":
    main()
