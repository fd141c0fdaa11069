"""The front's import list: it starts in a fraction of the time that IPython takes to import, and stays small."""

from __future__ import annotations

import json
import subprocess
import sys

FORBIDDEN = {
    "IPython",
    "asyncio",
    "ipykernel",
    "jupyter_client",
    "jupyter_core",
    "kvs",
    "matplotlib",
    "numpy",
    "pandas",
    "psutil",
    "tornado",
    "traitlets",
}
LOADED = """
import json, sys
import lambdakernel.front.app, lambdakernel.front.loop
print(json.dumps(sorted(sys.modules)))
"""


def test_the_front_loads_none_of_what_is_heavy_or_a_users() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=30)
    loaded = set(json.loads(done.stdout))
    assert "lambdakernel.front.loop" in loaded
    assert "zmq" in loaded
    assert {name.partition(".")[0] for name in loaded} & FORBIDDEN == set()
    assert [name for name in loaded if name.startswith(("lambdakernel.worker", "lambdakernel.state"))] == []
