"""Every error of kvs: each says what happened, with values, and then what to do."""

from __future__ import annotations

from typing import Any


class KvsError(Exception):
    """Root of our errors. They travel between processes: pickling keeps the text and the attributes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[KvsError], arguments: tuple[object, ...], attributes: dict[str, object]) -> KvsError:
    error = kind.__new__(kind, *arguments)  # not by its `__init__`, which takes the parts of the text
    error.__dict__.update(attributes)
    return error


class StoreForeign(KvsError):
    """The directory is not a store of ours, or of a newer format; nothing in it was touched."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} is not a store that this version can use: {why}.")

    @classmethod
    def newer(cls, what: str, found: object, known: object, needs: str = "") -> StoreForeign:
        """Something was written by a later version, which said in `needs` what reads it."""
        remedy = f"install {needs} or later" if needs else "install the version that wrote it, or a later one"
        return cls(what, f"its format {found} is newer than {known}; {remedy} (pip install -U lambdakernel)")


class StoreUnusable(KvsError):
    """The place of the store cannot be used as it is (missing, read-only, not ours, on a network)."""

    def __init__(self, path: str, why: str, remedy: str) -> None:
        super().__init__(f"the store {path} cannot be used: {why}. {remedy}")


class StoreFull(KvsError):
    """No room is left; nothing of the commit was written."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no room is left where the store {path} is. Free some, or run `python -m kvs gc {path}`.")


class StoreDamaged(KvsError):
    """A file of the store is damaged; `path` names it. Everything else stays readable."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"{path} is damaged: {why}. The rest of the store is readable; `python -m kvs check` lists what is damaged,"
            " `python -m kvs repair` moves it aside."
        )
        self.path, self.why = path, why


class DamageWarning(UserWarning):
    """A file of a space cannot be read and was left out: what only it holds is refused, the rest is read."""


class NotAuthentic(KvsError):
    """A stored record was not written by anyone who holds this store's key, or was changed since."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is not authentic: it was damaged or planted, and was not loaded. Other keys are not concerned;"
            " write the key again, or restore the store and its key file from a copy."
        )


class BlobDamaged(KvsError):
    """A blob is missing, short or not what its name says."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"blob {path} {why}. Values that need it cannot be loaded; other values can.")
        self.path = path


class ReadOnlyReplica(KvsError):
    """A reader was asked to write."""

    def __init__(self) -> None:
        super().__init__("this is a reader, which holds no lane and cannot publish. Use Space.replica() to write.")


class LaneLost(KvsError):
    """This process does not hold the lane that it wants to write; nothing was written."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path} cannot be written: {why}. Make a new replica with Space.replica() and publish there.")


class SpaceHeld(KvsError):
    """A space cannot be deleted or repaired while a live process uses it."""

    def __init__(self, name: str, pid: object) -> None:
        super().__init__(f"space {name!r} is held by process {pid}. End it first; a deletion can be told force=True.")
