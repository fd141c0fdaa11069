"""`python -m kvs check|repair|stats|gc|export|import PATH ...`: look after a store from the command line.

Exit code 0: done, and nothing is damaged. 1: something is damaged, and was named. 2: the store cannot be used, or the
command cannot be done; nothing was changed.
Settings come from `KVS_*`, so that `KVS_RETAIN_BYTES=0 python -m kvs gc PATH` keeps no old version that may go.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable

import kvs
from kvs.commands import carry, look, tidy
from kvs.commands.common import UNUSABLE, printable
from kvs.settings import from_env
from kvs.store import cold_of


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    warnings.simplefilter("ignore", kvs.DamageWarning)  # every command says it by itself
    try:
        return int(options.run(options))
    except (kvs.KvsError, ValueError) as e:  # ValueError: a KVS_* variable is no number
        print(printable(str(e)), file=sys.stderr)
        return UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kvs", description="Look after a store.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, what: str | None, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what)
        made.add_argument("path", metavar="PATH", help="the directory of the store")
        made.set_defaults(run=run)
        return made

    command("check", look.check.__doc__, lambda o: look.check(_opened(o.path)))
    command("stats", look.stats.__doc__, lambda o: look.stats(_opened(o.path)))
    command("gc", tidy.gc.__doc__, lambda o: tidy.gc(_opened(o.path)))
    repair = command("repair", tidy.repair.__doc__, lambda o: tidy.repair(_opened(o.path), forget=o.forget))
    repair.add_argument("--forget", action="store_true", help="delete what is lost, so that it is no error any more")
    export = command("export", carry.export.__doc__, lambda o: carry.export(_opened(o.path), o.archive, o.space))
    export.add_argument("archive", metavar="ARCHIVE", help="the file to write; there must be none of that name")
    export.add_argument("--space", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    take = command("import", carry.import_.__doc__, lambda o: carry.import_(o.path, o.archive, o.key, trust=o.trust))
    take.add_argument("archive", metavar="ARCHIVE", help="a file that `export` wrote")
    take.add_argument("--key", metavar="FILE", help="the key file of the store that wrote it; default: PATH.key")
    take.add_argument("--trust", action="store_true", help="import it whoever wrote it: its values can run code")
    return parser


def _opened(path: str) -> kvs.Store:
    """The store at `path`, which must be one, with the cold tier that it had last: looking never creates."""
    if not os.path.exists(f"{path}/FORMAT"):
        raise kvs.StoreForeign(path, "it holds no FORMAT file; give the directory of a store")
    name = cold_of(path)
    return kvs.open(path, from_env(), cold=name if name.startswith("s3://") else None)


if __name__ == "__main__":
    sys.exit(main())
