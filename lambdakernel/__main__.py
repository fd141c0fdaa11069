"""`python -m lambdakernel -f CONNECTION_FILE` is a kernel; anything else is the command line.

A kernel's start is waited for, so nothing that it does not need is imported on that path.
"""

import sys

if __name__ == "__main__":
    import os

    if sys.path and sys.path[0] in ("", os.getcwd()):  # a notebook's own `zmq.py` is not ours; IPython adds it later
        del sys.path[0]
    if any(word in {"-f", "--f"} or word.startswith(("-f=", "--f=")) for word in sys.argv[1:]):
        from lambdakernel.front.app import main
    else:
        from lambdakernel.install import main
    raise SystemExit(main(sys.argv[1:]))
