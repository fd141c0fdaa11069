"""What the kernel says of itself before a worker can: the content of `kernel_info_reply`.

IPython's version is read off the name of its installation record, since importing it takes longer than a fork.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from lambdakernel.front.messages import PROTOCOL


def kernel_info() -> dict[str, Any]:
    """As ipykernel answers, so that a client cannot tell who did; only the banner's daily tip is missing."""
    version = installed_version("ipython") or "unknown"
    python = sys.version.split()[0]
    features = ["kernel subshells"]
    if installed_version("debugpy"):
        features.append("debugger")
    return {
        "status": "ok",
        "protocol_version": PROTOCOL,
        "implementation": "ipython",
        "implementation_version": version,
        "language_info": {
            "name": "python",
            "version": python,
            "mimetype": "text/x-python",
            "codemirror_mode": {"name": "ipython", "version": sys.version_info[0]},
            "pygments_lexer": "ipython3",
            "nbconvert_exporter": "python",
            "file_extension": ".py",
        },
        "banner": f"Python {sys.version}\nType 'copyright', 'credits' or 'license' for more information\n"
        f"IPython {version} -- An enhanced Interactive Python. Type '?' for help.\n",
        "help_links": _help_links(),
        "supported_features": features,
    }


def _help_links() -> list[dict[str, str]]:
    python = f"https://docs.python.org/{sys.version_info[0]}.{sys.version_info[1]}"
    return [
        {"text": "Python Reference", "url": python},
        {"text": "IPython Reference", "url": "https://ipython.readthedocs.io/en/stable/"},
        {"text": "NumPy Reference", "url": "https://docs.scipy.org/doc/numpy/reference/"},
        {"text": "SciPy Reference", "url": "https://docs.scipy.org/doc/scipy/reference/"},
        {"text": "Matplotlib Reference", "url": "https://matplotlib.org/contents.html"},
        {"text": "SymPy Reference", "url": "http://docs.sympy.org/latest/index.html"},
        {"text": "pandas Reference", "url": "https://pandas.pydata.org/pandas-docs/stable/"},
    ]


def installed_version(name: str) -> str:
    """Version of an installed distribution, from the name of its record; empty if there is none."""
    prefix = name + "-"
    for folder in sys.path:
        if not folder.endswith(("site-packages", "dist-packages")):
            continue
        try:
            entries = os.listdir(folder)
        except OSError:
            continue
        for entry in entries:
            if entry.startswith(prefix) and entry.endswith(".dist-info"):
                return entry[len(prefix) : -len(".dist-info")]
    return ""
