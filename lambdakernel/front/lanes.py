"""A lane: the requests of one shell in order, and the worker that answers them. Pure: events in, actions out.

Theory of operation
- A request is forwarded as it came to the lane's worker, or waits until that worker is ready.
- It stays outstanding until its reply passes, with one more fact: whether the worker has *started* it. A worker
  notes that before it runs user code, and what it noted stays readable after it was killed. So a cell is
  never run twice: one that had not started goes to the next worker, one that had started is reported.
- When a worker dies with a cell started, the next worker is asked, by its first message, which cells are in the
  store. A cell that was committed gets the answer it deserved; any other gets an error that says that nothing of
  it was kept. Cells queued behind it are aborted, as after any error.
- A worker that dies between a reply and the idle that ends its output leaves clients waiting; that idle is ours to say.
- Cold mode ends the worker after every cell, and holds the next request until then.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any, NamedTuple

from lambdakernel.errors import NoWorker, WorkerLost
from lambdakernel.executors.base import Exited
from lambdakernel.front.about import kernel_info
from lambdakernel.front.messages import Frames, Request, Signer, message_type, parent_id, read_request

MAX_BOOT_FAILURES = 3
"""Workers in a row that ended before they were ready; then the user is told instead of waiting for a fourth."""
MAX_ATTEMPTS = 2
"""How often a request that is no cell (a completion, say) is given to a worker before it counts as deadly."""


class ToWorker(NamedTuple):
    channel: str
    frames: Frames


class ToClient(NamedTuple):
    channel: str
    frames: Frames


class Publish(NamedTuple):
    frames: Frames


class StartWorker(NamedTuple):
    generation: int


class RetireWorker(NamedTuple):
    """Tell a worker to end once its output is out."""

    generation: int


class Rest(NamedTuple):
    """No worker is wanted until a request comes: give everything back that costs memory."""


class Leave(NamedTuple):
    """The kernel is done: its shutdown was answered."""


Action = ToWorker | ToClient | Publish | StartWorker | RetireWorker | Rest | Leave


class Outstanding:
    """A request that the client still waits for."""

    __slots__ = ("attempts", "channel", "request", "started")

    def __init__(self, channel: str, request: Request) -> None:
        self.channel = channel
        self.request = request
        self.attempts = 0
        self.started = False

    @property
    def is_cell(self) -> bool:
        return self.request.msg_type == "execute_request"

    @property
    def key(self) -> tuple[str, str]:
        return (self.channel, self.request.msg_id)


class Lane:
    """See the module. `generation` numbers the lane's workers; events of an older one change nothing."""

    def __init__(self, signer: Signer, *, cold: bool = False) -> None:
        self._signer = signer
        self.cold = cold
        self.generation = 0
        self.ready = False
        self.closing = False
        self.resident: tuple[str, ...] = ()
        """Names that live in the worker alone, as it last said."""
        self._wanted = False
        self._waiting: list[Outstanding] = []
        self._sent: dict[tuple[str, str], Outstanding] = {}
        self._verdicts: list[tuple[Outstanding, WorkerLost]] = []
        self._boot_failures = 0
        self._answered: dict[int, dict[tuple[str, str | None], Request]] = {}
        """By worker, the last request of each shell whose reply passed: its idle may be still to come."""

    # -- from clients

    def request(self, channel: str, frames: Frames) -> list[Action]:
        """A client's message on shell or control; one that nobody with the key sent goes nowhere."""
        request = read_request(frames)
        if request is None or not self._signer.is_genuine(request):
            return []
        if request.msg_type == "kernel_info_request" and not self.ready:
            return self._answer(channel, request, "kernel_info_reply", kernel_info())
        if request.msg_type == "shutdown_request":
            self.closing = True
        item = Outstanding(channel, request)
        if self.ready and not self._must_hold(item):
            return [self._forward(item)]
        self._waiting.append(item)
        return self._ensure()

    def _must_hold(self, item: Outstanding) -> bool:
        if not self.cold or item.channel != "shell" or item.request.msg_type.startswith("comm_"):
            return False
        return bool(self._waiting) or any(sent.is_cell for sent in self._sent.values())

    def _forward(self, item: Outstanding) -> ToWorker:
        if not item.request.msg_type.startswith("comm_") or item.request.msg_type == "comm_info_request":
            item.attempts += 1
            self._sent[item.key] = item
        return ToWorker(item.channel, item.request.frames)

    def _ensure(self) -> list[Action]:
        """A worker, if none is there or on its way."""
        if self._wanted:
            return []
        self._wanted = True
        self.ready = False
        self.generation += 1
        return [StartWorker(self.generation)]

    def start(self) -> list[Action]:
        """Start the first worker before anyone asks."""
        return self._ensure()

    # -- from the worker

    def reply(self, generation: int, channel: str, frames: Frames) -> list[Action]:
        """The worker's message on shell or control, on its way to the client."""
        item = self._sent.pop((channel, parent_id(frames)), None)
        actions: list[Action] = [ToClient(channel, frames)]
        if item is not None:
            self._answered.setdefault(generation, {})[channel, item.request.subshell] = item.request
        if (
            self.cold
            and item is not None
            and item.is_cell
            and item.channel == "shell"
            and generation == self.generation
        ):
            actions += self._after_cold_cell(item, frames)
        return actions

    def _after_cold_cell(self, item: Outstanding, frames: Frames) -> list[Action]:
        actions: list[Action] = []
        reply = read_request(frames)
        failed = reply is not None and reply.content().get("status") == "error"
        if failed and item.request.content().get("stop_on_error", True):
            actions += self._abort_waiting_cells()
        if self.closing:
            return actions
        self._wanted = False
        return [*actions, RetireWorker(self.generation), *self._ensure()]

    def _abort_waiting_cells(self) -> list[Action]:
        cells = [w for w in self._waiting if w.is_cell]
        self._waiting = [w for w in self._waiting if not w.is_cell]
        return [action for cell in cells for action in self._abort(cell)]

    def said(self, generation: int, message: dict[str, Any]) -> list[Action]:
        """The worker's message on its link."""
        if generation != self.generation:
            return []
        match message:
            case {"said": "started", "msg_id": str(msg_id)}:
                for channel in ("shell", "control"):
                    if item := self._sent.get((channel, msg_id)):
                        item.started = True
            case {"said": "ready"}:
                return self._on_ready(message)
            case {"said": "resident", "names": list(names)}:
                self.resident = tuple(str(n) for n in names)
            case {"said": "idle"} if not self._sent and not self._waiting and not self.closing:
                self._wanted = self.ready = False
                return [RetireWorker(self.generation)]
        return []

    def _on_ready(self, message: dict[str, Any]) -> list[Action]:
        self.ready = True
        self._boot_failures = 0
        self.resident = ()
        self.cold = bool(message.get("cold", self.cold))
        committed = message.get("committed", {})
        count = int(message.get("execution_count", 0))
        actions: list[Action] = []
        verdicts, self._verdicts = self._verdicts, []
        for item, loss in verdicts:
            actions += self._verdict(item, loss, committed.get(item.request.msg_id), count)
        return actions + self.flush()

    def flush(self) -> list[Action]:
        """Give what waits to the ready worker."""
        actions: list[Action] = []
        waiting, self._waiting = self._waiting, []
        for at, item in enumerate(waiting):
            if self._must_hold(item):
                self._waiting = waiting[at:]
                break
            actions.append(self._forward(item))
        return actions

    # -- from the executor

    def refused(self, generation: int, why: str) -> list[Action]:
        """No worker could be made."""
        if generation != self.generation:
            return []
        return self._give_up(why)

    def unborn(self, generation: int, why: str) -> list[Action]:
        """Who starts workers has ended before this one was there: another is tried, as for one that ended before it was
        ready."""
        if generation != self.generation:
            return []
        self._wanted = self.ready = False
        if self.closing:
            return self._close_for(None)
        self._boot_failures += 1
        return self._give_up(why) if self._boot_failures >= MAX_BOOT_FAILURES else self._ensure()

    def exited(self, exited: Exited, generation: int, idle: Container[str] = ()) -> list[Action]:
        """A worker is gone, wanted or not; everything that it said on its link was heard before.

        `idle` holds the ids of the last requests for which it published that it is idle again.
        """
        answered = self._answered.pop(generation, {}).values()
        said = [self.status("idle", request.header) for request in answered if request.msg_id not in idle]
        return [*said, *self._after_exit(exited, generation)]

    def _after_exit(self, exited: Exited, generation: int) -> list[Action]:
        if generation != self.generation:
            return []
        if not self._wanted:
            return [Rest()]
        was_ready, self.ready, self._wanted = self.ready, False, False
        if self.closing:
            return self._close_for(exited)
        self._settle(exited)
        if not was_ready:
            self._boot_failures += 1
            if self._boot_failures >= MAX_BOOT_FAILURES:
                return self._give_up(
                    f"{self._boot_failures} in a row ended before they were ready; the last {exited.reason()}"
                )
        return [*self._refuse_deadly(), *self._ensure()]

    def _settle(self, exited: Exited) -> None:
        """Sort what the dead worker still owed: to be judged, aborted, or done by the next worker."""
        sent, self._sent = list(self._sent.values()), {}
        broken = {item.request.subshell for item in sent if item.is_cell and item.started}
        again: list[Outstanding] = []
        for item in sent:
            if item.is_cell and item.started:
                self._verdicts.append((item, WorkerLost(exited.pid, exited.reason(), self.resident)))
            elif item.is_cell and item.request.subshell in broken:
                self._verdicts.append((item, WorkerLost(exited.pid, exited.reason())))
            else:
                again.append(item)
        self._waiting = again + self._waiting

    def _refuse_deadly(self) -> list[Action]:
        deadly = [w for w in self._waiting if not w.is_cell and w.attempts >= MAX_ATTEMPTS]
        self._waiting = [w for w in self._waiting if w not in deadly]
        error = NoWorker("the worker died of this request twice")
        return [action for item in deadly for action in self._fail(item, error, 0)]

    def _give_up(self, why: str) -> list[Action]:
        """Answer everything that waits with an error; the next request tries again."""
        self._boot_failures = 0
        self._wanted = False
        self.ready = False
        if self.closing:
            return self._close_for(None)
        verdicts, self._verdicts = self._verdicts, []
        waiting, self._waiting = self._waiting, []
        sent, self._sent = list(self._sent.values()), {}
        actions = [action for item, loss in verdicts for action in self._fail(item, loss, 0)]
        return actions + [a for item in [*sent, *waiting] for a in self._fail(item, NoWorker(why), 0)]

    def _close_for(self, exited: Exited | None) -> list[Action]:
        """The kernel was asked to end: answer that where the worker did not, and go."""
        asked = [i for i in [*self._sent.values(), *self._waiting] if i.request.msg_type == "shutdown_request"]
        actions: list[Action] = []
        for item in asked:
            content = {"status": "ok", "restart": bool(item.request.content().get("restart", False))}
            actions += self._answer(item.channel, item.request, "shutdown_reply", content)
        return [*actions, Leave()]

    # -- answers of our own

    def _verdict(
        self, item: Outstanding, loss: WorkerLost, committed: dict[str, Any] | None, count: int
    ) -> list[Action]:
        if not item.started:
            return self._abort(item)
        if committed is None:
            return self._fail(item, loss, count)
        content = {**committed, "payload": [], "user_expressions": {}}
        return self._answer(item.channel, item.request, "execute_reply", content, busy=False)

    def _abort(self, item: Outstanding) -> list[Action]:
        return self._answer(item.channel, item.request, "execute_reply", {"status": "aborted"})

    def _fail(self, item: Outstanding, error: Exception, count: int) -> list[Action]:
        name, text = type(error).__name__, str(error)
        content: dict[str, Any] = {
            "status": "error",
            "ename": name,
            "evalue": text,
            "traceback": [f"\x1b[0;31m{name}\x1b[0m: {text}"],
        }
        display: list[Frames] = []
        if item.is_cell:
            shown = {k: content[k] for k in ("ename", "evalue", "traceback")}
            display = [self._signer.message("error", shown, parent=item.request.header, idents=[b"kernel.front.error"])]
            content |= {"execution_count": count, "user_expressions": {}, "payload": []}
        kind = item.request.msg_type.removesuffix("_request") + "_reply"
        return self._answer(item.channel, item.request, kind, content, display, busy=not item.started)

    def _answer(
        self,
        channel: str,
        request: Request,
        kind: str,
        content: dict[str, Any],
        display: Iterable[Frames] = (),
        *,
        busy: bool = True,
    ) -> list[Action]:
        """Busy, what is displayed, the reply, idle."""
        reply = self._signer.message(
            kind,
            content,
            parent=request.header,
            metadata={"status": content["status"]},
            idents=request.idents,
        )
        status = [self.status(state, request.header) for state in ("busy", "idle")]
        return [
            *(status[:1] if busy else ()),
            *(Publish(frames) for frames in display),
            ToClient(channel, reply),
            status[1],
        ]

    def status(self, state: str, parent: dict[str, Any] | None = None) -> Publish:
        frames = self._signer.message(
            "status", {"execution_state": state}, parent=parent, idents=[b"kernel.front.status"]
        )
        return Publish(frames)


def is_shutdown_reply(frames: Frames) -> bool:
    return message_type(frames) == "shutdown_reply"
