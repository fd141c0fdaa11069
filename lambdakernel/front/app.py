"""Start of a kernel: what `python -m lambdakernel -f CONNECTION_FILE` runs.

The zygote is forked first, while this process is still a bare interpreter: it needs the longest (it imports
IPython), and it shares the interpreter's memory. Then this process becomes the front.
"""

from __future__ import annotations

import os
import shutil
import sys

from lambdakernel.errors import LambdaKernelError
from lambdakernel.executors.local import fork_zygote
from lambdakernel.front.connection import Connection, read

USAGE = "usage: python -m lambdakernel -f CONNECTION_FILE (Jupyter runs this; `lambdakernel --help` has more)"


def main(argv: list[str]) -> int:
    """Run a kernel until it is told to end; its exit code."""
    path, rest = connection_argument(argv)
    if not path:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        connection = read(path)
        directory = make_runtime_directory()
    except (LambdaKernelError, OSError) as e:
        print(f"lambdakernel: {e}", file=sys.stderr)
        return 1
    executor = fork_zygote(directory)
    return _run_front(connection, directory, executor, rest)


def _run_front(connection: Connection, directory: str, executor: object, argv: list[str]) -> int:
    from lambdakernel.executors.local import LocalExecutor
    from lambdakernel.front.loop import Front

    assert isinstance(executor, LocalExecutor)
    try:
        front = Front(connection, directory, executor, argv)
    except LambdaKernelError as e:
        print(f"lambdakernel: {e}", file=sys.stderr)
        executor.close(1.0)
        return 1
    try:
        return front.run()
    finally:
        front.close()
        shutil.rmtree(directory, ignore_errors=True)


def connection_argument(argv: list[str]) -> tuple[str, list[str]]:
    """The connection file that `-f` names, and the other arguments, which the workers read."""
    path, rest, at = "", [], 0
    while at < len(argv):
        word = argv[at]
        if word in {"-f", "--f"} and at + 1 < len(argv):
            path = argv[at + 1]
            at += 1
        elif word.startswith(("--f=", "-f=")):
            path = word.partition("=")[2]
        else:
            rest.append(word)
        at += 1
    return path, rest


def make_runtime_directory() -> str:
    """A directory (0700) of this kernel's own for sockets: under `XDG_RUNTIME_DIR`, else the temporary one.

    Socket addresses are limited to 107 bytes, so the path is kept short.
    """
    bases = (os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR"), "/tmp")
    error: OSError | None = None
    for base in filter(None, bases):
        if len(base) > 60:
            continue
        path = f"{base}/lambdakernel-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            os.mkdir(path, 0o700)
        except OSError as e:
            error = e
        else:
            return path
    raise error or OSError("no directory for sockets: set XDG_RUNTIME_DIR or TMPDIR to a short, writable path")
