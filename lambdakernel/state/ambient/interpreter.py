"""Settings of the interpreter itself, and the time zone that the C library goes by."""

from __future__ import annotations

import gc
import sys
import time
from typing import Any


class Interpreter:
    """How often threads take turns, how long a number's text may be, and when garbage is looked for."""

    name = "interpreter"

    def capture(self) -> Any:
        return (sys.getswitchinterval(), sys.get_int_max_str_digits(), gc.isenabled(), gc.get_threshold())

    def restore(self, value: Any) -> None:
        interval, digits, collects, thresholds = value
        sys.setswitchinterval(interval)
        sys.set_int_max_str_digits(digits)
        (gc.enable if collects else gc.disable)()
        gc.set_threshold(*thresholds)


class TimeZone:
    """Set by `time.tzset` from the environment, which has to be restored before."""

    name = "time zone"

    def capture(self) -> Any:
        return (time.tzname, time.timezone, time.altzone)

    def restore(self, value: Any) -> None:
        if value != self.capture():
            time.tzset()
