"""Text that many edit at once, through Yjs' sequence algorithm.

A value is the set of its edits, each a Yjs update under (replica, counter); join is union, so that the laws hold by
construction. The letters come from applying the edits to a document, always in the order of (counter, replica), which
respects who saw whose edit. What it costs: an edit is kept for ever, with some 20 bytes beside its letters, and reading
applies them all once a value. Make one edit of many keystrokes.
Needs pycrdt, which is imported when a text is read or edited; values move, join and are stored without it.
Source: Nicolaescu et al., "Near Real-Time Peer-to-Peer Shared Editing on Extensible Data Types", 2016 (YATA).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

from kvs.causal.context import checked_dot
from kvs.causal.yjs import check_edit
from kvs.lattices.base import Lattice, set_field
from kvs.lattices.codec import lattice_type
from kvs.lattices.declared import monotone, mutator
from kvs.lattices.errors import BadEncoding, MissingExtra, OutsideDomain

_ROOT = "text"

Edit = tuple[int, int, bytes]


@lattice_type("text")
class Text(Lattice):
    """A text as the set of its edits: bottom is empty. Positions are in characters, as Python counts them.

    A replica has a number that no other has, and joins each delta that it makes before it makes the next. If a number
    is used twice all the same, replicas still agree, and one of the two edits may not show.
    """

    __slots__ = ("_edits", "_read")
    _edits: frozenset[Edit]
    _read: str | None

    def __init__(self, edits: Iterable[Edit] = ()) -> None:
        """Edits as `edits()` gave them.

        Raises:
            OutsideDomain: one is no (replica, counter from 1, update of Yjs that inserts or deletes letters).
        """
        rows = frozenset(edits)
        for edit in rows:
            _check(*edit)
        set_field(self, "_edits", rows)
        set_field(self, "_read", None)

    def _join(self, other: Text) -> Text:
        if self._edits <= other._edits:
            return other
        return self if other._edits <= self._edits else _of_edits(self._edits | other._edits)

    def _leq(self, other: Text) -> bool:
        return self._edits <= other._edits

    def difference(self, known: Text) -> Text:
        if type(known) is not Text:
            raise self._mismatch(known)
        return _of_edits(self._edits - known._edits)

    def atoms(self) -> Iterator[Text]:
        return (_of_edits(frozenset([edit])) for edit in self.edits())

    @mutator
    def insert(self, replica: int, index: int, text: str) -> Text:
        """The delta of `replica` putting `text` before the character at `index` (the length: at the end).

        Raises:
            OutsideDomain: `index` is outside of the text, or `text` has half a surrogate pair.
            MissingExtra: pycrdt is not installed.
        """
        at = self._offset(index)
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise OutsideDomain(f"{text!r}", "has half a surrogate pair", "Leave it out.") from e
        return self._edited(replica, lambda letters: letters.insert(at, text)) if text else Text()

    @mutator
    def append(self, replica: int, text: str) -> Text:
        """The delta of `replica` putting `text` at the end."""
        return self.insert(replica, len(self), text)

    @mutator
    def delete(self, replica: int, start: int, stop: int) -> Text:
        """The delta of `replica` taking out the characters from `start` to before `stop`.

        Raises:
            OutsideDomain: they are outside of the text.
            MissingExtra: pycrdt is not installed.
        """
        first, last = self._offset(start), self._offset(stop)
        return (
            self._edited(replica, lambda letters: letters.__delitem__(slice(first, last))) if first < last else Text()
        )

    @monotone
    def size(self) -> int:
        """How many edits were made."""
        return len(self._edits)

    def edits(self) -> list[Edit]:
        """The edits in the order in which they are applied."""
        return sorted(self._edits, key=lambda edit: (edit[1], edit[0], edit[2]))

    def update(self) -> bytes:
        """Everything as one Yjs update of a document with a text named "text", for another program."""
        update: bytes = self._document(0).get_update()
        return update

    def __str__(self) -> str:
        """The letters.

        Raises:
            BadEncoding: an edit cannot be applied.
            MissingExtra: pycrdt is not installed.
        """
        if self._read is None:
            set_field(self, "_read", str(self._document(0)[_ROOT]) if self._edits else "")
        return self._read or ""

    def __len__(self) -> int:
        return len(str(self))

    def _offset(self, index: int) -> int:
        """Where a character begins among the bytes of UTF-8, which is how the document counts."""
        letters = str(self)
        if type(index) is not int or not 0 <= index <= len(letters):
            raise OutsideDomain(
                f"position {index!r}", f"is outside of a text of {len(letters)}", "Read it again first."
            )
        return len(letters[:index].encode())

    def _edited(self, replica: int, edit: Callable[[Any], object]) -> Text:
        counter = 1 + max((counter for _, counter, _ in self._edits), default=0)
        checked_dot(replica, counter)
        document = self._document(replica)
        updates: list[bytes] = []
        watching = document.observe(lambda event: updates.append(event.update))
        edit(document[_ROOT])
        document.unobserve(watching)
        return Text((replica, counter, update) for update in updates)

    def _document(self, replica: int) -> Any:
        crdt = _pycrdt()
        document = crdt.Doc(client_id=replica)
        document[_ROOT] = crdt.Text()
        for _, _, update in self.edits():
            try:
                document.apply_update(update)
            except (ValueError, RuntimeError) as e:
                raise BadEncoding(f"an edit of a text cannot be applied ({e})") from e
        return document

    def body(self) -> Any:
        return tuple(self.edits())

    @classmethod
    def from_body(cls, body: Any) -> Text:
        return cls(body)

    def _key(self) -> Hashable:
        return self._edits

    def __repr__(self) -> str:
        edits = f"{len(self._edits)} edits"
        try:
            return f"Text({str(self)!r}, {edits})" if self._edits else "Text('')"
        except (BadEncoding, MissingExtra) as e:  # a repr is for looking at what is wrong, too
            return f"Text({edits}, unreadable: {e})"


def _check(replica: int, counter: int, update: bytes) -> None:
    checked_dot(replica, counter)
    try:
        check_edit(update, replica, _ROOT)
    except ValueError as e:
        raise OutsideDomain(f"an edit by {replica}", f"is none ({e})", "Make edits with `insert` and `delete`.") from e


def _of_edits(edits: frozenset[Edit]) -> Text:
    made: Text = Text.__new__(Text)
    set_field(made, "_edits", edits)
    set_field(made, "_read", None)
    return made


def _pycrdt() -> Any:
    try:
        import pycrdt
    except ImportError as e:
        raise MissingExtra("a Text that is read or edited", "pycrdt", "text") from e
    return pycrdt
