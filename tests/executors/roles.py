"""What a worker of the zygote's tests becomes: small roles in place of an IPython kernel.

Run as a module, this is the zygote itself with these roles: `spawn_zygote` starts it by name.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOREVER_S = 600
NOBODY = 65534


def run(params: dict[str, Any], fds: tuple[int, ...]) -> int:
    """Do what `params["do"]` says; with a descriptor, write facts about this process to it first."""
    children = [_child(new_session=False) for _ in range(params.get("children", 0))]
    if fds:
        with socket.socket(fileno=fds[0]) as line:
            line.sendall(json.dumps(_facts(children)).encode() + b"\n")
    match params["do"]:
        case "wait":
            time.sleep(FOREVER_S)
        case "exit":
            return int(params["code"])
        case "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "raise":
            raise RuntimeError("a role that fails")
    return 0


def _child(*, new_session: bool) -> int:
    return subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=new_session).pid


def _facts(children: list[int]) -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    return {
        "pid": os.getpid(),
        "name": Path("/proc/self/comm").read_text().strip(),
        "parent": os.getppid(),
        "session": os.getsid(0),
        "group": os.getpgrp(),
        "children": children,
        "modules": sorted(sys.modules),
        "sockets": sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in _open_fds()),
        "drawn": [random.random(), float(numpy.random.random()) if numpy else 0.0],
    }


def _open_fds() -> list[str]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        found.append(fd)
    return found


def refuse_forks() -> None:
    """Make every later fork of this process fail, as a user at the process limit finds it."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if os.geteuid() == 0:  # the limit does not bind root
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


if __name__ == "__main__":
    from lambdakernel.worker import zygote

    zygote._ROLES = json.loads(os.environ["TEST_ROLES"])
    if os.environ.get("TEST_REFUSE_FORKS"):
        for module in zygote._ROLES.values():  # while this user may still read it
            importlib.import_module(module)
        refuse_forks()
    raise SystemExit(zygote.main(int(sys.argv[1]), sys.argv[2]))
