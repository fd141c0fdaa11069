"""What goes wrong in the algebra: each error says what happened, with values, and then what to do."""

from __future__ import annotations

from kvs.errors import KvsError


class LatticeMismatch(KvsError, TypeError):
    """Values of two different lattices met; nothing was joined. `wanted` and `got` name the types."""

    def __init__(self, wanted: str, got: str, where: str = "") -> None:
        at = f" at {where}" if where else ""
        super().__init__(
            f"{got} does not join with {wanted}{at}: they are different lattices."
            " Convert one of them, or use another key."
        )
        self.wanted, self.got = wanted, got


class OutsideDomain(KvsError, ValueError):
    """A value cannot be part of a lattice; nothing was made."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what} {why}. {remedy}")


class NotReadable(KvsError, ValueError):
    """There is no value to read yet: nothing was written, or what was written has no single answer."""


class Clash(NotReadable):
    """What may be written once was written twice, differently. It stays so; every replica shows the same."""


class NotSealed(NotReadable):
    """The answer may still change: `missing` names the writers that have not finished (empty: nobody said who)."""

    def __init__(self, text: str, missing: tuple[object, ...] = ()) -> None:
        super().__init__(text)
        self.missing = missing


class BadEncoding(KvsError, ValueError):
    """The bytes are no lattice value of ours: damaged, cut off, made by something else, or not in canonical form."""

    def __init__(self, why: str) -> None:
        super().__init__(f"these bytes are no lattice value: {why}. Read them again from a copy that is whole.")


class NewerEncoding(BadEncoding):
    """The bytes are of a version that this software does not know."""

    def __init__(self, version: int, known: int) -> None:
        KvsError.__init__(
            self,
            f"these bytes are a lattice value of encoding version {version}; this software reads {known}."
            " Use a newer version of it.",
        )


class UnknownLattice(BadEncoding):
    """The bytes are a value of a lattice that nothing here defines; `tag` is its name."""

    def __init__(self, tag: str) -> None:
        KvsError.__init__(
            self,
            f"these bytes are a lattice value of type {tag!r}, which is not defined here."
            " Import the module that has it.",
        )
        self.tag = tag


class MissingExtra(KvsError, ImportError):
    """An optional dependency is needed and is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed. Run `pip install 'lambdakernel[{extra}]'`.")
