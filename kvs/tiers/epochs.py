"""What machines tell each other of garbage in a space of the object tier: who is there, what is doomed, who has passed.

Layout, below the space
- `machines/<machine>/<incarnation>`: the machine uses the space; with `.leaving` behind it, it has to enter anew if it
  still is there; with `.retired`, it is not waited for.
- `epochs/<epoch>/doomed`: objects of blobs that are to be deleted, written before any of them is.
- `epochs/<epoch>/seals/<machine>.<incarnation>`: the machine has passed the epoch: it counts none of them as there any
  more, but for those that it says are kept.
- `epochs/<epoch>/done`: those that nobody keeps are deleted.

Each is written once, where there is none, and bears a code of who holds the space's key. A store that wrote a lane
before it had epochs is a machine of incarnation 0, known by the lane's owner: it is waited for like any other.
- A machine says that it is there before it looks for an open epoch, and who deletes looks for machines after the list
  of the doomed is written. So either it is seen and waited for, or it sees the list.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from kvs import seal
from kvs.tiers.failures import TierDamaged
from kvs.tiers.s3 import Bucket

DIGITS = 10
_INCARNATION_DIGITS = 6
_LEAVING, _RETIRED = ".leaving", ".retired"


class Member(NamedTuple):
    """One life of a machine in a space."""

    machine: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.machine}.{self.incarnation:0{_INCARNATION_DIGITS}}"


class Doomed(NamedTuple):
    """An object that is to be deleted; `is_spare` if another holds the same blob and stays."""

    name: str
    nbytes: int
    is_spare: bool

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.name.partition(".")[0])


class Epoch(NamedTuple):
    """The newest epoch, 0 if there never was one, and whether all that is doomed by it is deleted."""

    number: int
    is_done: bool


class Epochs:
    """See the module."""

    def __init__(self, bucket: Bucket, prefix: str, key: bytes) -> None:
        self._bucket, self._prefix, self._key = bucket, prefix, key
        self._owner_of: dict[str, bytes | None] = {}

    # -- machines

    def members(self) -> list[Member]:
        """Every machine that is waited for."""
        newest: dict[str, Member] = {}
        for owner in self._owners():
            newest[owner] = Member(owner, 0)
        retired = set()
        prefix = f"{self._prefix}machines/"
        for item in self._bucket.list(prefix):
            machine, _, life = item.key[len(prefix) :].partition("/")
            number, _, said = life.partition(".")
            if number.isdecimal():
                member = Member(machine, int(number))
                newest[machine] = max(member, newest.get(machine, member))
                if f".{said}" == _RETIRED:
                    retired.add(member)
        return sorted(member for member in newest.values() if member not in retired)

    def _owners(self) -> set[str]:
        for item in self._bucket.list(f"{self._prefix}owners/"):
            if item.key not in self._owner_of:  # an owner stays for ever
                self._owner_of[item.key] = self._bucket.get(item.key)
        return {machine_name(owner) for owner in self._owner_of.values() if owner}

    def newest_of(self, machine: str) -> tuple[Member, bool]:
        """The newest life of a machine that is written down (incarnation 0: none), and whether it has to enter anew."""
        prefix = f"{self._prefix}machines/{machine}/"
        lives = [item.key[len(prefix) :].partition(".") for item in self._bucket.list(prefix)]
        newest = max((int(number) for number, _, _ in lives if number.isdecimal()), default=0)
        is_over = any(said for number, _, said in lives if number.isdecimal() and int(number) == newest)
        return Member(machine, newest), is_over

    def enter(self, machine: str) -> Member:
        """A new life of the machine, written down."""
        member = self.newest_of(machine)[0]
        while True:
            member = Member(machine, member.incarnation + 1)
            if self._bucket.put_new(self._life(member), b""):
                return member

    def dismiss(self, member: Member) -> None:
        """Have it enter anew if it still is there."""
        self._bucket.put_new(self._life(member) + _LEAVING, b"")

    def retire(self, member: Member) -> None:
        """Wait for it no more."""
        self._bucket.put_new(self._life(member) + _RETIRED, b"")

    def _life(self, member: Member) -> str:
        return f"{self._prefix}machines/{member.machine}/{member.incarnation:0{_INCARNATION_DIGITS}}"

    # -- epochs

    def newest(self) -> Epoch:
        found: dict[int, set[str]] = {}
        prefix = f"{self._prefix}epochs/"
        for item in self._bucket.list(prefix):
            name, _, what = item.key[len(prefix) :].partition("/")
            if name.isdecimal():
                found.setdefault(int(name), set()).add(what)
        number = max((n for n, what in found.items() if "doomed" in what), default=0)
        return Epoch(number, number == 0 or "done" in found[number])

    def passed(self, epoch: int) -> frozenset[str]:
        """Who has passed that epoch."""
        prefix = self._path(epoch, "seals/")
        return frozenset(item.key[len(prefix) :] for item in self._bucket.list(prefix))

    def doom(self, epoch: int, doomed: Iterable[Doomed]) -> bool:
        """Open an epoch with what is to be deleted; whether nobody was faster."""
        return self._put(epoch, "doomed", [tuple(one) for one in doomed])

    def doomed(self, epoch: int) -> list[Doomed]:
        return [Doomed(*one) for one in self._get(epoch, "doomed", list[tuple[str, int, bool]])]

    def seal(self, epoch: int, member: Member, kept: Iterable[str]) -> frozenset[str]:
        """Say that it has passed the epoch, and which of the doomed it keeps; what it keeps by what it said first."""
        if self._put(epoch, f"seals/{member}", sorted(kept)):
            return frozenset(kept)
        return self.kept(epoch, str(member))

    def kept(self, epoch: int, member: str) -> frozenset[str]:
        return frozenset(self._get(epoch, f"seals/{member}", list[str]))

    def finish(self, epoch: int) -> None:
        """Say that all is deleted, and forget earlier epochs."""
        self._put(epoch, "done", [])
        prefix = f"{self._prefix}epochs/"
        found = (item.key for item in self._bucket.list(prefix))
        self._bucket.delete_all([key for key in found if key < f"{prefix}{epoch:0{DIGITS}}/"])

    def _put(self, epoch: int, what: str, said: list[Any]) -> bool:
        data = msgspec.msgpack.encode(said)
        return self._bucket.put_new(self._path(epoch, what), self._code(epoch, what, data) + data)

    def _get(self, epoch: int, what: str, kind: Any) -> Any:
        path = self._path(epoch, what)
        found = self._bucket.get(path)
        if found is None:
            raise TierDamaged(f"{self._bucket.name}/{path}", "it is missing")
        code, data = found[: seal.DIGEST_SIZE], found[seal.DIGEST_SIZE :]
        if not seal.same(code, self._code(epoch, what, data)):
            raise TierDamaged(f"{self._bucket.name}/{path}", "nobody who holds the key wrote it")
        return msgspec.msgpack.decode(data, type=kind)

    def _code(self, epoch: int, what: str, data: bytes) -> bytes:
        return seal.mac(self._key, (b"epoch", b"%d" % epoch, what.encode(), data))

    def _path(self, epoch: int, what: str) -> str:
        return f"{self._prefix}epochs/{epoch:0{DIGITS}}/{what}"


def machine_name(owner: bytes) -> str:
    """As the name of an object."""
    return owner.decode() if owner.isalnum() and owner.isascii() else owner.hex()
