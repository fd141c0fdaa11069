"""The processes of a kernel, with their memory: for `%workers`, and for what JupyterLab shows as the kernel's use."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
import psutil

_NAMES = {f"lk-{role}": role for role in ("zygote", "worker", "task", "idle", "template", "scrub")}


class ProcessRow(msgspec.Struct, frozen=True):
    """One process: `role` is front, zygote, worker, template, task, idle (a task's process that waits for the next
    fan-out), scrub, or `user` for one that a cell started."""

    pid: int
    role: str
    pss_nbytes: int
    """Its share of memory: pages that several processes hold are divided among them."""
    state: str
    cpu_s: float


def tree(front_pid: int) -> list[Any]:
    """Every process of the kernel: the front and all that came from it; those that end meanwhile are left out."""
    try:
        front = psutil.Process(front_pid)
        return [front, *front.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def rows(front_pid: int) -> list[ProcessRow]:
    """One row a process, the front first. Costs a read of each process's memory map."""
    found = []
    for process in tree(front_pid):
        try:
            with process.oneshot():
                found.append(
                    ProcessRow(process.pid, role(process, front_pid), pss(process), process.status(), cpu(process))
                )
        except psutil.Error:
            continue
    return found


def role(process: Any, front_pid: int) -> str:
    if process.pid == front_pid:
        return "front"
    found = _NAMES.get(process.name(), "user")
    return "user" if found == "worker" and not _is_of_zygote(process) else found


def _is_of_zygote(process: Any) -> bool:
    """What a cell forks has its worker's name."""
    parent = process.parent()
    return parent is not None and _NAMES.get(parent.name()) == "zygote"


def pss(process: Any) -> int:
    info = process.memory_full_info()
    return int(getattr(info, "pss", info.rss))


def cpu(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def usage(front_pid: int, known: Mapping[int, Any]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The processes now, and the content of a `usage_reply`, summed over them.

    Pass the processes of the last call as `known`: processor use is a share of the time between two calls.
    """
    now = {p.pid: known.get(p.pid, p) for p in tree(front_pid)}
    content = {
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "kernel_cpu": sum(_or_zero(p.cpu_percent) for p in now.values()),
        "kernel_memory": sum(_or_zero(lambda p=p: pss(p)) for p in now.values()),
        "host_cpu_percent": psutil.cpu_percent(),
        "cpu_count": psutil.cpu_count(logical=True),
        "host_virtual_memory": dict(psutil.virtual_memory()._asdict()),
    }
    return now, content


def _or_zero(measure: Any) -> float:
    """A process that ended meanwhile uses nothing."""
    try:
        return float(measure())
    except psutil.Error:
        return 0.0
