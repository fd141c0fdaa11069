"""Random cells, random kills at random moments, and a dict as oracle: nothing lost, half-visible, or applied twice.

Theory of operation
- The oracle is the list of cells that took effect; replaying them in a plain dict gives the state that must be.
- A cell whose reply said ok, or whose own exception was replied, took effect. One answered with `WorkerLost` or
  `aborted` did not. One that nobody answered, because the front was killed, did wholly or not at all: the kernel's
  state decides which, and must equal one of the two exactly.
- Every cell appends its number to a journal first and does the rest a moment later, so that a kill in between would
  show as a torn cell, a re-run as a number twice, and a late commit as a number out of order.

`CHAOS_ROUNDS` and `CHAOS_SEED` set how long and which; a failure prints both.
"""

from __future__ import annotations

import ast
import contextlib
import os
import random
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.kernels import Kernel, Result, eventually, running

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "80"))
SEED = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
LISTS = ("a", "b", "c")
NAMES = (*LISTS, "d", "f", "K", "o", "x")
FIRST = "journal = []; import time"
PAUSE = re.compile(r"time\.sleep\((.*)\)")


# -- the oracle


@dataclass
class Oracle:
    """The cells that took effect, in order."""

    applied: list[str] = field(default_factory=lambda: [FIRST])

    def state(self, *more: str) -> dict[str, Any]:
        """The namespace after every applied cell, and then `more`."""
        space: dict[str, Any] = {"__name__": "__main__"}
        for source in (*self.applied, *more):
            with contextlib.suppress(ValueError):  # a cell that raised keeps what it did before
                exec(PAUSE.sub("", source), space)
        return space

    def seen(self, *more: str) -> str:
        """What the probe shows in the oracle."""
        space = self.state(*more)
        return str(eval(probe(space), space))


def probe(space: dict[str, Any]) -> str:
    """An expression over the names that `space` has: values, aliases, bindings, and which names are absent."""
    there = [name for name in NAMES if name in space]
    shown = {"f": "f()", "o": "(o.tag, o.items, type(o).__name__)", "K": "K.tag"}
    parts = [shown.get(name, name) for name in ("journal", *there)]
    lists = [
        *(n for n in LISTS if n in there),
        *(["d['in']"] if "d" in there else []),
        *(["o.items"] if "o" in there else []),
    ]
    parts += [f"{p} is {q}" for at, p in enumerate(lists) for q in lists[at + 1 :]]
    if "o" in there and "K" in there:
        parts.append("isinstance(o, K)")
    parts.append(f"[n for n in {NAMES!r} if n not in globals()]")
    return f"repr(({', '.join(parts)},))"


def random_cell(rng: random.Random, n: int, space: dict[str, Any]) -> str:
    """A cell that works in `space` (or raises ValueError on purpose)."""
    lists = [name for name in LISTS if name in space]
    target, other = rng.choice(LISTS), rng.choice(lists or ["journal"])
    kinds: list[str] = [f"{target} = [{n}]", f"x = {n}", f"def f(): return ({n}, len(journal), 'x' in globals())"]
    kinds += [f"class K: tag = {n}"]
    if lists:
        kinds += [f"{target} = {other}", f"{other}.append({n})", f"d = {{'in': {other}, 'n': {n}}}", f"del {other}"]
        kinds += [f"{other}.append({n}); raise ValueError({n})"]
    if "d" in space:
        kinds += [f"d['in'].append({n})", f"{target} = d['in']", f"d[{n}] = d['n']"]
    if "K" in space:
        kinds += [f"o = K(); o.items = {other if lists else '[]'}"]
    if "o" in space:
        kinds += [f"o.items.append({n})", f"K.tag = {n}" if "K" in space else "o.tag = 0"]
    pause = rng.choice(["", "time.sleep(0.01)", "time.sleep(0.05)"])
    return f"journal.append({n})\n{pause}\n{rng.choice(kinds)}"


# -- the kills


def kill_worker(kernel: Kernel, _rng: random.Random) -> bool:
    workers = kernel.pids("worker")
    if workers:
        kernel.kill(workers[-1])
    return False


def kill_worker_twice(kernel: Kernel, rng: random.Random) -> bool:
    kill_worker(kernel, rng)
    eventually(lambda: kernel.pids("worker"), 10.0, "another worker")
    time.sleep(rng.uniform(0, 0.05))
    return kill_worker(kernel, rng)


def freeze_then_kill(kernel: Kernel, rng: random.Random) -> bool:
    for pid in kernel.pids("worker"):
        with contextlib.suppress(ProcessLookupError):  # a cold worker ends by itself after its cell
            os.kill(pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0, 0.05))
    return kill_worker(kernel, rng)


def kill_zygote(kernel: Kernel, _rng: random.Random) -> bool:
    for pid in kernel.pids("zygote"):
        kernel.kill(pid)
    return False


def kill_front(kernel: Kernel, _rng: random.Random) -> bool:
    kernel.front.kill()
    return True


def kill_everything(kernel: Kernel, _rng: random.Random) -> bool:
    kernel.kill_everything()
    return True


KILLS: dict[Callable[[Kernel, random.Random], bool], int] = {
    kill_worker: 24,
    kill_worker_twice: 3,
    freeze_then_kill: 6,
    kill_zygote: 5,
    kill_front: 5,
    kill_everything: 5,
}
"""Each does its work and says whether the front is gone; how often it is drawn. A dead worker costs a fork, a dead
front a start of everything."""
MOMENTS = ("before", "during", "during", "commit", "commit", "commit", "after", "idle", "none")
WARM_UP = 9
"""Cells by which the time from a request to its reply is measured."""


# -- the story


class Story:
    """One kernel, its oracle, and what happened so far, for the message of a failure."""

    def __init__(self, kernel: Kernel, rng: random.Random) -> None:
        self.kernel, self.rng = kernel, rng
        self.oracle = Oracle()
        self.told: list[str] = []
        self.reply_s = sorted(kernel.run("journal").seconds for _ in range(WARM_UP))[WARM_UP // 2]

    def round(self, n: int) -> None:
        source = random_cell(self.rng, n, self.oracle.state())
        (kill,), moment = self.rng.choices(list(KILLS), list(KILLS.values())), self.rng.choice(MOMENTS)
        self.told.append(f"{n}: {source!r}, {kill.__name__} {moment}")
        if moment == "before":
            self.revive(kill(self.kernel, self.rng))
        msg_id = self.kernel.client.send(source)
        front_gone = False
        if moment in {"during", "commit"}:
            time.sleep(self.delay(source, moment))
            front_gone = kill(self.kernel, self.rng)
        result = self.outcome(msg_id, front_gone)
        if moment in {"after", "idle"}:
            time.sleep(0.0 if moment == "after" else 0.2)
            front_gone = kill(self.kernel, self.rng)
        self.revive(front_gone)
        self.settle(source, result)

    def delay(self, source: str, moment: str) -> float:
        """Seconds from the request to the kill: at any time, or about when the cell is committed."""
        if moment == "during":
            return self.rng.uniform(0, 0.08)
        pause = sum(float(found[1]) for found in PAUSE.finditer(source))
        return pause + self.reply_s * self.rng.uniform(0.3, 1.2)

    def outcome(self, msg_id: str, front_gone: bool) -> Result | None:
        """The reply, or None if nobody will answer any more."""
        try:
            return self.kernel.client.result(msg_id, 0.3 if front_gone else 30.0)
        except TimeoutError:
            if not front_gone:
                raise
            reply = self.kernel.client.reply_so_far(msg_id)
            return None if reply is None else Result(reply)

    def revive(self, front_gone: bool) -> None:
        if front_gone:
            self.kernel.restart_as_jupyter_does()

    def settle(self, source: str, result: Result | None) -> None:
        """Decide what the cell did, and hold the kernel to it."""
        kept, lost = self.oracle.seen(source), self.oracle.seen()
        expression = probe(self.oracle.state())
        match result:
            case None:
                outcomes = {True: kept, False: lost}
            case Result(reply={"status": "ok"}) | Result(reply={"ename": "ValueError"}):
                outcomes = {True: kept}
            case Result(reply={"ename": "WorkerLost"}) | Result(reply={"status": "aborted"}):
                outcomes = {False: lost}
            case _:
                raise AssertionError(self.story(f"an answer that no user should see: {result.reply}"))
        last = self.oracle.state(source)["journal"][-1:]
        there = probe(self.oracle.state(source))
        probed = self.kernel.run(f"(journal[-1:] == {last}, {there} if journal[-1:] == {last} else {expression})")
        assert probed.status == "ok", self.story(probed.shown)
        took, shown = ast.literal_eval(str(probed.value))
        assert took in outcomes, self.story(f"applied: {took}, answered {result.reply if result else None}")
        seen = ast.literal_eval(outcomes[took])
        assert ast.literal_eval(shown) == seen, self.story(f"\nseen   {shown}\nshould {outcomes[took]}")
        if took:
            self.oracle.applied.append(source)

    def story(self, what: str) -> str:
        return f"seed {SEED}, rounds {ROUNDS}: {what}\n" + "\n".join(self.told[-15:])


@pytest.mark.timeout(60 + 3 * ROUNDS)
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_no_cell_is_lost_torn_or_applied_twice_whatever_is_killed_when(tmp_path: Path, cold: bool) -> None:
    rng = random.Random(SEED + cold)
    env = {"LAMBDAKERNEL_COLD": "1"} if cold else {}
    with running(tmp_path / "store", session="chaos", env=env) as kernel:
        kernel.run(FIRST)
        story = Story(kernel, rng)
        for n in range(ROUNDS):
            story.round(n)
        kernel.shutdown()
    with running(tmp_path / "store", session="chaos") as again:
        assert again.value(probe(story.oracle.state())) == story.oracle.seen(), story.story("after the last shutdown")
