"""What every worker does first, done once before workers are forked, for what Python keeps of it.

A shell compiles some ten patterns as it is made and as its first cell is read, and imports modules late. All of that
is the same each time, and stays in caches of the process (those of `re`, `fnmatch` and `pathlib`, and `sys.modules`),
which a forked worker is born with. Nothing else is left behind: no file is read or written, no thread begins.
"""

from __future__ import annotations

import faulthandler  # noqa: F401 -- for its being loaded, as the next ones
import fnmatch
import os
from pathlib import Path

import IPython.core.logger
import IPython.core.oinspect  # noqa: F401
from ipykernel.kernelapp import IPKernelApp
from IPython.core.completer import IPCompleter
from IPython.core.inputtransformer2 import TransformerManager

_CELL = 'x = """1""" + f"{2}"  # 3\n%time x?\n!ls\n'


def rehearse() -> None:
    """See the module. Takes tens of milliseconds."""
    TransformerManager().transform_cell(_CELL)
    IPCompleter(shell=None, namespace={}, global_namespace={})
    IPKernelApp().parse_command_line(["-f", os.devnull])
    for pattern in ("*.py", "*.ipy"):  # of start-up files
        fnmatch.filter([], pattern)
        list(Path(os.devnull).glob(pattern))
