"""Whether a process is what it was at its birth: each trace that the system or Python keeps is seen, no other is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TRACES = {
    "a thread": "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "a child": "import os\nif os.fork() == 0: os._exit(0)",
    "a descriptor": "import os; os.open('/dev/null', os.O_RDONLY)",
    "a descriptor that is closed": "import os; os.close(spare)",
    "the folder": "import os; os.chdir('/tmp')",
    "a folder that is gone": "import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "the environment": "import os; os.environ['LK_X'] = '1'",
    "the mask of files": "import os; os.umask(0o123)",
    "a signal handler": "import signal; signal.signal(signal.SIGUSR1, print)",
    "a timer": "import signal; signal.setitimer(signal.ITIMER_REAL, 60)",
    "a stream": "import io, sys; sys.stdout = io.StringIO()",
    "a stream that is closed": "import sys; sys.stdin.close()",
    "a stream of another encoding": "import sys; sys.stdout.reconfigure(encoding='latin-1')",
    "where modules are": "import sys; sys.path.append('/nowhere')",
    "a hook": "import sys; sys.excepthook = print",
    "a tracer": "import sys; sys.settrace(lambda *a: None)",
    "the depth of recursion": "import sys; sys.setrecursionlimit(1234)",
    "the collector": "import gc; gc.disable()",
    "a filter of warnings": "import warnings; warnings.simplefilter('ignore')",
    "a warning": "import warnings; warnings.warn('look')",
    "a module that is not Python's": "import lambdakernel.magics",
    "a module that is gone": "import sys; del sys.modules['json']",
    "another main module": "import sys, types; sys.modules['__main__'] = types.ModuleType('__main__')",
    "a shell": "from IPython.core.interactiveshell import InteractiveShell as S; S._instance = object()",
    "memory": "b = bytearray(80_000_000); del b",
    "a value that may have changed": "kept = 1",
}
NONE = {
    "nothing": "pass",
    "a module of Python's": "import colorsys",
    "a name": "fresh = [1]",
    "a name that is bound anew": "plain = 2",
    "a name that is deleted": "del plain",
    "a name that nobody could meet": "hidden = 2",
    "a little memory": "b = bytearray(1_000_000)",
    "text": "import sys; print(end='', file=sys.stderr)",
}
PROGRAM = """
import json, os, sys
from lambdakernel.parallel.birth import Birth
cases, found = json.loads(sys.argv[1]), {}
live = sys.modules["__main__"].__dict__
for name, code in cases.items():
    pid = os.fork()
    if pid == 0:
        os.setsid()
        spare = os.open("/dev/null", os.O_RDONLY)
        live = {"__name__": "__main__", "plain": 1, "kept": [1], "hidden": [1], "spare": spare}
        before, order = dict(live), [*live]
        birth = Birth.of(live, set())
        exec(code, live)
        live.pop("__builtins__", None)
        is_same = birth.is_as_now(live, {"kept", "plain"}, set())
        restored = [*live] == order and all(live[n] is before[n] for n in order)
        os._exit(1 if not is_same else 0 if restored else 2)
    found[name] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, json.dumps(TRACES | NONE)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_seen(found, name):
    assert found[name] == 1


@pytest.mark.parametrize("name", NONE)
def test_what_is_none_is_put_back(found, name):
    assert found[name] == 0


def test_settings_of_numpy_are_seen():
    pytest.importorskip("numpy")
    code = (
        "import numpy as np\nfrom lambdakernel.parallel.birth import Birth\n"
        "b = Birth.of({}, set()); assert b.is_as_now({}, set(), set())\n"
        "np.seterr(divide='ignore'); assert not b.is_as_now({}, set(), set())"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
