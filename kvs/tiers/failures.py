"""What can go wrong with a tier that is not on this machine, by what a caller would do."""

from __future__ import annotations

from kvs.errors import KvsError


class TierUnreachable(KvsError):
    """It did not answer, or only with errors that pass, until the deadline. Try again later."""

    def __init__(self, where: str, waited_s: float, why: str) -> None:
        super().__init__(
            f"{where} could not be reached within {waited_s:.1f} s: {why}. What is published is safe on this machine;"
            " try again when the network is back."
        )


class TierRefused(KvsError):
    """It answered that it will not do this. Trying again is of no use before something is changed."""

    def __init__(self, where: str, why: str, remedy: str) -> None:
        super().__init__(f"{where} refuses: {why}. {remedy}")


class TierDamaged(KvsError):
    """What a tier holds is torn, changed or missing; nothing of it was taken."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"{where} is damaged: {why}. Nothing of it was loaded; restore it from an older version of the object or a"
            " copy, or push from a machine that still has the space."
        )
        self.where, self.why = where, why


class TierGap(KvsError):
    """Records were to follow ones that are not there."""

    def __init__(self, where: str, last: int, after: int) -> None:
        super().__init__(
            f"{where} ends at commit {last}, so that nothing can follow {after}. Append from {last + 1} on."
        )
        self.last, self.after = last, after


class ExtraMissing(KvsError):
    """A library that a tier needs is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs a library that is not installed. Run: pip install 'lambdakernel[{extra}]'")
