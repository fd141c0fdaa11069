"""The zygote: a process that has imported what a worker needs, and forks one whenever it is asked to.

Theory of operation
- It runs one thread of Python and opens nothing but its own sockets, so that a fork is safe and cheap
  (milliseconds). Libraries it may import ahead of need (numpy with OpenBLAS) stop their threads at a fork themselves.
- Whoever asks for a worker owns it. When an asker's end of the conversation closes, its workers are killed, with
  whatever processes they started in their own process group. The front is the first asker; when it goes, the zygote
  kills everything, removes the kernel's runtime directory, and ends. So nothing outlives a kernel that is killed.
- Should the zygote itself be killed, its workers get SIGKILL from the system (parent-death signal).
- A worker leads a session of its own: an interrupt of the kernel's process group does not reach it twice.
- A dead worker is reaped at once and reported with its exit code, and whether the machine ran out of memory.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import shutil
import signal
import socket
import sys
import traceback
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import PathFinder
from typing import Any

from lambdakernel.executors import wire
from lambdakernel.executors.birth import end_with, name_process
from lambdakernel.executors.local import zygote_address
from lambdakernel.worker import debugger, template

_ROLES = {"kernel": "lambdakernel.worker.app", "task": "lambdakernel.parallel.task"}
_TEMPLATE = "template"
"""The role of a fork server for the tasks of one fan-out."""
_NAMES = {"task": b"lk-task", _TEMPLATE: b"lk-template"}
"""What the system calls the process of a role, from its first moment: nobody takes a task that begins for a worker."""
_TEMPLATE_END_MS = 1000
"""For a template to end what it has started, before it is killed."""
_REHEARSAL = "lambdakernel.worker.rehearsal"
_GENERATOR = "numpy.random"
"""numpy loads it late, and each fan-out seeds it."""
_WARM_AFTER_MS = 300
"""Milliseconds without an order before a module is imported ahead of need."""
_MOST_PASSED = 2
"""Workers that come into being without a module that they use; before one more, it is imported here. By then as much
time went into importing it again and again."""


@dataclass(frozen=True, slots=True)
class Order:
    """One request for a worker: what the forked child is to become."""

    id: str
    role: str
    params: dict[str, Any]
    fds: tuple[int, ...]


@dataclass(slots=True)
class Child:
    """A live worker: its process, and the asker that owns it."""

    id: str
    pid: int
    owner: int
    oom_kills: int
    ends_itself: bool = False
    """When its own asker is gone, and what it started first."""


@dataclass(slots=True)
class Zygote:
    """The loop's state. `askers` maps a descriptor to its conversation, `children` a pidfd to its worker."""

    front: socket.socket
    door: socket.socket | None = None
    askers: dict[int, socket.socket] = field(default_factory=dict)
    children: dict[int, Child] = field(default_factory=dict)
    wanted: list[str] = field(default_factory=list)
    tried: set[str] = field(default_factory=set)
    passed: int = 0
    """Workers forked while a module that each of them imports was wanted."""
    keep_directory: bool = False


def main(fd: int, directory: str) -> int:
    """Run the zygote on the conversation `fd`; in a forked child, run the worker instead. The exit code of either."""
    gc.disable()  # nothing of what is imported here ever becomes garbage, and looking for it takes a fifth of the time
    front = wire.adopt(fd)
    _become_zygote()
    try:
        _import_roles()
        zygote = Zygote(front, _open_door(directory), wanted=[_REHEARSAL, debugger.MODULE])
    except BaseException:
        wire.send(front, {"op": "broken", "reason": _tail(traceback.format_exc())})
        return 1
    gc.freeze()
    gc.enable()
    order = _serve(zygote)
    if order is None:
        if not zygote.keep_directory:
            shutil.rmtree(directory, ignore_errors=True)
        return 0
    if order.role == _TEMPLATE:
        return _be_template(order)
    return int(importlib.import_module(_ROLES[order.role]).run(order.params, order.fds))


def _be_template(order: Order) -> int:
    """Serve one fan-out; in a forked task, be that."""
    task: Any = importlib.import_module(_ROLES["task"])
    taken: list[Order] = []

    def serve(asked: socket.socket) -> bool:
        found = _serve(Zygote(asked))
        if found is not None:
            taken.append(found)
        return found is not None

    loaded = template.become(order.fds, partial(task.get_ready, order.params), task.load, serve)
    return int(task.run(taken[0].params, taken[0].fds, loaded))


def _become_zygote() -> None:
    """Leave the front's process group, and let interrupts be the workers' business."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    name_process(b"lk-zygote")
    # what ipykernel would set before a cell can import matplotlib; the zygote may import it first
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def _import_roles() -> None:
    """Everything that a worker needs for its first cell."""
    for module in _ROLES.values():
        importlib.import_module(module)


def _open_door(directory: str) -> socket.socket:
    """The socket at which workers ask for tasks; only its owner may connect (directory 0700, socket 0600)."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    old = os.umask(0o177)
    try:
        if os.path.exists(zygote_address(directory)):  # an earlier zygote's
            os.unlink(zygote_address(directory))
        door.bind(zygote_address(directory))
    finally:
        os.umask(old)
    door.listen(64)
    return door


def _serve(z: Zygote) -> Order | None:
    """Until the front is gone: None, and every worker is dead. In a forked child: what it is to become."""
    poller = select.poll()
    z.askers[z.front.fileno()] = z.front
    for end in _own_ends(z):
        poller.register(end.fileno(), select.POLLIN)
    while z.front.fileno() in z.askers:
        timeout = _WARM_AFTER_MS if z.wanted else None
        ready = poller.poll(timeout)
        if not ready and z.wanted:
            _warm(z, z.wanted[0])
        for fd, _ in ready:
            order = _handle(z, poller, fd)
            if order is not None:
                return order
    for child in z.children.values():
        if not child.ends_itself:
            os.kill(child.pid, signal.SIGKILL)
    for watch in [w for w, child in z.children.items() if not child.ends_itself]:
        _bury(z, poller, watch)
    for watch in list(z.children):
        _bury(z, poller, watch, kill=not _has_ended(watch))
    return None


def _own_ends(z: Zygote) -> list[socket.socket]:
    return [z.front] if z.door is None else [z.front, z.door]


def _has_ended(watch: int) -> bool:
    """Whether it did within the time that it has for that."""
    poller = select.poll()
    poller.register(watch, select.POLLIN)
    return bool(poller.poll(_TEMPLATE_END_MS))


def _handle(z: Zygote, poller: select.poll, fd: int) -> Order | None:
    """Act on one readable descriptor; an order means: this is the forked child now."""
    if z.door is not None and fd == z.door.fileno():
        asker, _ = z.door.accept()
        z.askers[asker.fileno()] = asker
        poller.register(asker.fileno(), select.POLLIN)
    elif fd in z.children:
        _bury(z, poller, fd)
    elif fd in z.askers:
        return _hear(z, poller, fd)
    return None


def _hear(z: Zygote, poller: select.poll, fd: int) -> Order | None:
    try:
        received = wire.receive(z.askers[fd])
    except wire.PeerGone:
        _forget(z, poller, fd)
        return None
    if received is None:
        return None
    message, fds = received
    if message["op"] == "job":  # for a process that could not load it: each task has it
        wire.close_fds(fds)
        return None
    if message["op"] == "end":
        z.keep_directory = True
        return None
    if message["op"] == "warm" and message["now"]:
        for name in message["modules"]:
            if name not in z.tried:
                _warm(z, name)
        return None
    if message["op"] == "warm":
        z.wanted += [m for m in message["modules"] if m not in z.tried and m not in z.wanted]
        return None
    order = Order(message["id"], message["role"], message["params"], fds)
    if order.role == "kernel":
        _warm_in_time(z)
    elif order.role == _TEMPLATE and "numpy" in sys.modules and _GENERATOR not in z.tried:
        _warm(z, _GENERATOR)
    return order if _fork(z, poller, fd, order) else None


def _fork(z: Zygote, poller: select.poll, owner: int, order: Order) -> bool:
    """Fork for `order`; True in the child, which has dropped all that is the zygote's."""
    parent = os.getpid()
    oom_kills = _oom_kills()
    try:
        pid = os.fork()
    except OSError as e:
        wire.close_fds(order.fds)
        reason = f"the system refused to fork a worker ({e.strerror}); free memory or raise the process limit"
        _tell(z, owner, {"op": "refused", "id": order.id, "reason": reason})
        return False
    if pid == 0:
        _become_worker(z, parent, order.role)
        return True
    wire.close_fds(order.fds)
    watch = os.pidfd_open(pid)
    z.children[watch] = Child(order.id, pid, owner, oom_kills, order.role == _TEMPLATE)
    poller.register(watch, select.POLLIN)
    _tell(z, owner, {"op": "started", "id": order.id, "pid": pid})
    return False


def _become_worker(z: Zygote, parent: int, role: str) -> None:
    name_process(_NAMES.get(role, b"lk-worker"))
    end_with(parent)
    os.setsid()
    for end in {*z.askers.values(), *_own_ends(z)}:
        end.close()
    wire.close_fds(tuple(z.children))
    _reseed()


def _reseed() -> None:
    """Two forked workers must not draw the same random numbers; `random` sees to itself at a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _bury(z: Zygote, poller: select.poll, watch: int, *, kill: bool = False) -> None:
    """Reap one worker, with what is left of its process group, and report it to its owner."""
    child = z.children.pop(watch)
    poller.unregister(watch)
    os.close(watch)
    if kill:
        os.kill(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    _kill_group(child.pid)
    code = os.waitstatus_to_exitcode(status)
    oom = code == -signal.SIGKILL and _oom_kills() > child.oom_kills
    peak = usage.ru_maxrss * 1024
    _tell(
        z,
        child.owner,
        {"op": "exited", "id": child.id, "pid": child.pid, "code": code, "oom": oom, "peak": peak},
    )


def _kill_group(leader: int) -> None:
    """Kill what a dead worker's cells started and left; a group that is empty or not ours any more is no error."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _forget(z: Zygote, poller: select.poll, fd: int) -> None:
    """An asker is gone: so are its workers."""
    poller.unregister(fd)
    z.askers.pop(fd).close()
    theirs = {watch: child for watch, child in z.children.items() if child.owner == fd}
    for child in theirs.values():
        if child.ends_itself:
            child.owner = -1
        else:
            os.kill(child.pid, signal.SIGKILL)  # all of them, and then they end side by side
    for watch, child in theirs.items():
        if not child.ends_itself:
            _bury(z, poller, watch)


def _tell(z: Zygote, owner: int, message: dict[str, object]) -> None:
    """An owner that is gone or stuck is dealt with when its end closes."""
    asker = z.askers.get(owner)
    if asker is None:
        return
    try:
        wire.send(asker, message)
    except wire.PeerGone:
        return


def _warm_in_time(z: Zygote) -> None:
    """Where one worker follows the other, there is no pause to import in."""
    used_by_each = [name for name in z.wanted if name != debugger.MODULE]
    z.passed = z.passed + 1 if used_by_each else 0
    if z.passed > _MOST_PASSED:
        for name in used_by_each:
            _warm(z, name)


def _warm(z: Zygote, name: str) -> None:
    """Import a module ahead of need, if it comes from the installation (a notebook's own `pandas.py` does not)."""
    z.wanted = [other for other in z.wanted if other != name]
    z.tried.add(name)
    if name in sys.modules or not (name == _REHEARSAL or _is_installed(name.partition(".")[0])):
        return
    try:
        if name == debugger.MODULE:
            debugger.load()
        elif name == _REHEARSAL:
            importlib.import_module(name).rehearse()
        else:
            importlib.import_module(name)
    except Exception:  # the session's own import will show the error, in the cell where it belongs
        return
    z.wanted = [other for other in z.wanted if other not in sys.modules]  # it brings parts of itself, and others
    gc.collect()
    gc.freeze()


def _is_installed(top: str) -> bool:
    spec = PathFinder.find_spec(top, [p for p in sys.path if "site-packages" in p or "dist-packages" in p])
    return spec is not None


def _oom_kills() -> int:
    """How many processes the machine's out-of-memory killer has killed; 0 where the system does not say."""
    try:
        with open("/proc/vmstat", "rb") as f:
            return next((int(line.split()[1]) for line in f if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


def _tail(text: str) -> str:
    return text[-4000:]


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), sys.argv[2]))
