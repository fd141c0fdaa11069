"""Ambient state that holds objects of the notebook: handlers, filters, options that are functions."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("a handler of logging of its own", """
        import logging
        class Keep(logging.Handler):
            def __init__(self): super().__init__(); self.kept = []
            def emit(self, record): self.kept.append(self.format(record))
        keep = Keep(); keep.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        log = logging.getLogger("own.handler"); log.addHandler(keep); log.setLevel("DEBUG"); log.propagate = False
        # %%
        log.info("one"); log.handlers == [keep]
        # %%
        log.debug("two"); keep.kept
        # %%
        class Odd(logging.Filter):
            def filter(self, record): return "odd" in record.getMessage()
        log.addFilter(Odd())
        # %%
        log.info("even"); log.info("odd"); keep.kept
        # %%
        log.removeHandler(keep); log.filters.clear(); log.propagate = True; log.setLevel(0)
        # %%
        log.handlers, log.filters, log.propagate, log.level, len(keep.kept)
    """, alone=True),
    program("a log file and a level for all", """
        import logging
        to_file = logging.FileHandler("a.log", mode="w"); log = logging.getLogger("to.file"); log.addHandler(to_file)
        log.error("first")
        # %%
        log.error("second")
        # %%
        logging.disable(logging.ERROR); logging.addLevelName(35, "LOUD")
        # %%
        log.error("not written"); log.critical("third"); print(open("a.log").read(), logging.getLevelName(35))
        # %%
        logging.disable(logging.NOTSET); log.log(35, "fourth"); open("a.log").read().splitlines()
    """, alone=True),
    program("warnings of its own class, and warnings that are logged", """
        import logging, sys, warnings
        class Mine(UserWarning): pass
        warnings.simplefilter("error", Mine)
        # %%
        try: warnings.warn("now an error", Mine)
        except Mine as e: print(type(e) is Mine, e)
        # %%
        warnings.simplefilter("ignore", Mine)
        logging.basicConfig(stream=sys.stdout, format="%(name)s", force=True); logging.captureWarnings(True)
        # %%
        warnings.warn("silent", Mine); warnings.warn("logged")
        # %%
        logging.captureWarnings(False); warnings.resetwarnings(); warnings.warn("silent no more", Mine)
    """, alone=True),
    program("a signal handler that changes variables", """
        import signal
        class Box:
            def __init__(self): self.rang = 0
            def ring(self, number, frame): self.rang += 1
        box = Box(); before = signal.signal(signal.SIGUSR2, box.ring); signal.signal(signal.SIGHUP, signal.SIG_IGN);
        # %%
        signal.raise_signal(signal.SIGUSR2); signal.raise_signal(signal.SIGHUP)
        # %%
        box.rang, signal.getsignal(signal.SIGUSR2).__self__ is box, signal.getsignal(signal.SIGHUP)
        # %%
        signal.signal(signal.SIGUSR2, before); signal.signal(signal.SIGHUP, signal.SIG_DFL);
        # %%
        signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGHUP)
    """, alone=True),
    program("options that are functions", """
        import numpy as np, pandas as pd
        unit = "m"
        def show(x): return f"{x:.1f} {unit}"
        np.set_printoptions(formatter={"float": show}); pd.set_option("display.float_format", show)
        # %%
        print(np.array([1.5]), pd.Series([2.5]).to_string())
        # %%
        unit = "km"
        # %%
        print(np.array([1.5]), pd.Series([2.5]).to_string(), pd.get_option("display.float_format") is show)
        # %%
        np.set_printoptions(formatter=None); pd.reset_option("display.float_format")
        # %%
        print(np.array([1.5]), pd.Series([2.5]).to_string())
    """, alone=True),
    program("errors of numpy that are counted", """
        import numpy as np
        seen = []
        def note(kind, flag): seen.append(kind)
        old = np.seterrcall(note), np.seterr(divide="call")
        # %%
        np.array([1.0, 2.0]) / 0
        # %%
        seen, np.geterrcall() is note, np.geterr()["divide"]
        # %%
        np.seterrcall(old[0]); np.seterr(**old[1]); np.geterr()["divide"], np.geterrcall()
    """, alone=True),
    program("arguments by another name", """
        import sys
        old = sys.argv; argv = sys.argv = ["prog"]
        # %%
        argv.append("-v"); sys.argv
        # %%
        sys.argv.clear(); argv, argv is sys.argv
        # %%
        sys.argv = ["other"]
        # %%
        sys.argv, argv
    """, alone=True),
    program("streams by another name", """
        import logging, os, sys
        out, err, env = sys.stdout, sys.stderr, os.environ
        # %%
        print("to out", file=out); out is sys.stdout, err is sys.stderr, env is os.environ
        # %%
        env["LK_PARITY_ENV"] = "1"; os.environ["LK_PARITY_ENV"], [out, {"e": err}][0] is sys.stdout
        # %%
        os.environ.pop("LK_PARITY_ENV"); handler = logging.StreamHandler(out)
        # %%
        handler.stream is sys.stdout
    """),
)  # fmt: skip
