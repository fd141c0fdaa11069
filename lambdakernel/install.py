"""The command line: `lambdakernel install` tells a Jupyter where this kernel is, `uninstall` takes that back.

`pip install lambdakernel` already puts a kernelspec into its own environment. `install` is for every other place: a
Jupyter in another environment finds the kernel in the user's data directory, or under a prefix. The spec that it
writes names this interpreter by its full path, since that is where lambdakernel is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

from lambdakernel import __version__
from lambdakernel.errors import LambdaKernelError

NAME = "lambdakernel"


class InstallError(LambdaKernelError):
    """The kernelspec could not be written or removed; nothing else was changed."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; its exit code: 0 done, 1 could not, 2 not understood."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command is None:
            parser.print_help()
            return 2
        name, user = arguments.name, arguments.user
        prefix = sys.prefix if arguments.sys_prefix else arguments.prefix
        if arguments.command == "install":
            path = install(name, arguments.display_name, user=user, prefix=prefix)
            print(f"Installed kernel {name!r} in {path}")
        else:
            print(f"Removed kernel {name!r} from {uninstall(name, user=user, prefix=prefix)}")
    except InstallError as e:
        print(f"lambdakernel: {e}", file=sys.stderr)
        return 1
    return 0


def install(
    name: str = NAME, display_name: str | None = None, *, user: bool = False, prefix: str | None = None
) -> Path:
    """The directory of the kernelspec `name` that was written; one of that name that was there is replaced.

    With neither `user` nor `prefix` it goes to the system's own data directory.

    Raises:
        InstallError: the name is no kernel name, or the place cannot be written; says what to do.
    """
    with _staged(display_name) as source:
        try:
            made = KernelSpecManager().install_kernel_spec(str(source), name, user=user, prefix=prefix)
        except ValueError as e:
            raise InstallError(f"{name!r} is no kernel name: use letters, digits, '-', '.' and '_'.") from e
        except OSError as e:
            place = e.filename or prefix or "the system's data directory"
            remedy = "Use --prefix with a directory that you may write" if user else "Use --user or --sys-prefix"
            raise InstallError(f"cannot write {place}: {e.strerror or e}. {remedy}.") from e
    return Path(made)


def uninstall(name: str = NAME, *, user: bool = False, prefix: str | None = None) -> Path:
    """The directory of the kernelspec `name` that was removed.

    With neither `user` nor `prefix` it is the one that Jupyter uses, which may be the environment's own.

    Raises:
        InstallError: there is none, or it cannot be removed; says what is there.
    """
    path = _installed(name, user, prefix)
    if not _is_ours(path):
        raise InstallError(f"{path} is not a kernel of lambdakernel's. Use `jupyter kernelspec remove {name}`.")
    try:
        path.unlink() if path.is_symlink() else shutil.rmtree(path)
    except OSError as e:
        raise InstallError(
            f"cannot remove {path}: {e.strerror or e}. Run the command again as the owner of that directory."
        ) from e
    return path


def resources() -> Path:
    """The directory with kernel.json and the logos: in the package, or beside it in a source tree.

    Raises:
        InstallError: it is in neither place: the installation is not whole.
    """
    package = Path(__file__).resolve().parent
    for path in (package / "kernelspec", package.parent / "kernelspec"):
        if (path / "kernel.json").is_file():
            return path
    raise InstallError(f"{package} has no kernelspec. Install lambdakernel again: pip install --force-reinstall ...")


@contextmanager
def _staged(display_name: str | None) -> Iterator[Path]:
    """A copy of the resources whose kernel.json names this interpreter; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="lambdakernel-install-") as directory:
        target = Path(directory) / NAME
        shutil.copytree(resources(), target)
        spec_file = target / "kernel.json"
        spec = json.loads(spec_file.read_text())
        spec["argv"][0] = sys.executable
        if display_name:
            spec["display_name"] = display_name
        spec_file.write_text(json.dumps(spec, indent=1) + "\n")
        yield target


def _installed(name: str, user: bool, prefix: str | None) -> Path:
    manager = KernelSpecManager(ensure_native_kernel=False)
    kernels = manager.user_kernel_dir if user else f"{prefix}/share/jupyter/kernels" if prefix else ""
    if kernels:
        manager.kernel_dirs = [kernels]
    try:
        return Path(manager.get_kernel_spec(name).resource_dir)
    except NoSuchKernel:
        where = f" in {kernels}" if kernels else ""
        there = ", ".join(sorted(manager.find_kernel_specs())) or "none"
        raise InstallError(f"no kernel {name!r} is installed{where}. Installed kernels: {there}.") from None


def _is_ours(directory: Path) -> bool:
    try:
        argv = json.loads((directory / "kernel.json").read_text())["argv"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return NAME in argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("lambdakernel", description="Install the lambdakernel kernel for Jupyter.")
    parser.add_argument("--version", action="version", version=f"lambdakernel {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add = commands.add_parser("install", help="make the kernel known to Jupyter")
    add.add_argument("--display-name", metavar="TEXT", help="what Jupyter shows")
    for command in (add, commands.add_parser("uninstall", help="remove it again")):
        where = command.add_mutually_exclusive_group()
        where.add_argument("--user", action="store_true", help="for this user, in every environment")
        where.add_argument("--sys-prefix", action="store_true", help=f"in this environment: {sys.prefix}")
        where.add_argument("--prefix", metavar="PATH", help="under PATH/share/jupyter/kernels")
        command.add_argument("--name", default=NAME, help="directory name of the kernelspec (default: %(default)s)")
    return parser
