"""`python -m lambdakernel -f CONNECTION_FILE` is a kernel; anything else is the command line."""

import sys

if __name__ == "__main__":
    if any(word.startswith(("-f", "--f")) for word in sys.argv[1:]):
        from lambdakernel.front.app import main
    else:
        from lambdakernel.install import main
    raise SystemExit(main(sys.argv[1:]))
