"""Ambient state: what a process holds beside its variables."""

from __future__ import annotations

from tests.scenarios.parity.program import program

PROGRAMS = (
    program("working directory", """
        import os
        os.makedirs("sub/deep", exist_ok=True); os.chdir("sub")
        # %%
        print(os.path.basename(os.getcwd()), os.listdir())
        # %%
        %cd deep
        # %%
        %pwd
        # %%
        %cd ..
        # %%
        print(os.path.basename(os.getcwd())); os.chdir("..")
    """),
    program("back to the last directory", """
        import os
        os.makedirs("down", exist_ok=True)
        # %%
        %cd down
        # %%
        %cd -
        # %%
        %cd ~-
    """, alone=True),
    program("environment", """
        import os
        os.environ["LK_PARITY"] = "1"
        # %%
        %env LK_OTHER=2
        # %%
        !echo $$LK_PARITY $$LK_OTHER
        # %%
        print(os.getenv("LK_PARITY"), os.environ.pop("LK_OTHER"))
        # %%
        del os.environ["LK_PARITY"]; "LK_PARITY" in os.environ, "LK_OTHER" in os.environ
    """),
    program("sys.path and argv", """
        import sys
        sys.path.insert(0, "/nowhere/first"); argv = sys.argv; sys.argv = ["prog", "--x"]
        # %%
        print(sys.path[0], sys.argv)
        # %%
        sys.path.remove("/nowhere/first"); sys.argv[:] = ["p"]
        # %%
        print("/nowhere/first" in sys.path, sys.argv); sys.argv = argv
    """),
    program("random", """
        import random
        random.seed(4); own = random.Random(5)
        # %%
        print(random.random(), own.random())
        # %%
        deck = list(range(8)); random.shuffle(deck)
        # %%
        print(deck, random.gauss(0, 1), own.choice("abc"), random.getstate()[0])
    """),
    program("numpy random", """
        import numpy as np
        np.random.seed(3)
        # %%
        print(np.random.rand(2))
        # %%
        np.random.normal()
        # %%
        print(np.random.permutation(5), np.random.standard_normal())
    """),
    program("numpy print options", """
        import numpy as np
        np.set_printoptions(precision=2, suppress=True); x = np.array([1 / 3, 1e-9])
        # %%
        x
        # %%
        np.set_printoptions(precision=8, suppress=False)
    """),
    program("numpy error state", """
        import numpy as np
        old = np.seterr(divide="raise")
        # %%
        np.array([1.0]) / 0
        # %%
        np.seterr(**old);
    """),
    program("pandas options", """
        import pandas as pd
        pd.set_option("display.max_rows", 4); pd.options.display.precision = 2
        # %%
        pd.DataFrame({"a": [x / 7 for x in range(10)]})
        # %%
        pd.reset_option("display.max_rows"); pd.get_option("display.max_rows"), pd.get_option("display.precision")
        # %%
        pd.reset_option("display.precision")
    """),
    program("warning filters", """
        import warnings
        warnings.simplefilter("error", UserWarning)
        # %%
        warnings.warn("now an error")
        # %%
        warnings.filterwarnings("ignore", message="quiet.*")
        # %%
        warnings.warn("quiet please"); print("still here")
        # %%
        warnings.resetwarnings(); print(len(warnings.filters))
    """, alone=True),
    program("decimal context", """
        import decimal
        from decimal import Decimal as D
        decimal.getcontext().prec = 5
        # %%
        D(1) / 3
        # %%
        decimal.getcontext().rounding = decimal.ROUND_UP; print(D(2) / 3)
        # %%
        print(decimal.getcontext().prec, D("1.005").quantize(D("0.01"))); decimal.setcontext(decimal.Context())
    """),
    program("locale", """
        import locale
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
        # %%
        print(locale.setlocale(locale.LC_NUMERIC), locale.localeconv()["decimal_point"])
        # %%
        locale.setlocale(locale.LC_TIME, "C"); print(locale.setlocale(locale.LC_ALL))
        # %%
        locale.setlocale(locale.LC_TIME)
    """, alone=True),
    program("logging", """
        import logging, sys
        logger = logging.getLogger("parity.one"); logger.setLevel(logging.DEBUG)
        # %%
        print(logger.level, logger is logging.getLogger("parity.one"))
        # %%
        logger.warning("to stderr")
        # %%
        logging.getLogger("parity").setLevel(logging.ERROR); logger.setLevel(logging.NOTSET)
        # %%
        logger.getEffectiveLevel(), logger.isEnabledFor(logging.WARNING)
    """),
    program("logging configuration", """
        import logging, sys
        logging.basicConfig(format="%(levelname)s|%(name)s|%(message)s", stream=sys.stdout, level="INFO", force=True)
        # %%
        logging.info("one"); logging.getLogger("deep.er").warning("two")
        # %%
        logging.getLogger().handlers[0].setLevel("ERROR")
        # %%
        logging.info("not shown"); logging.error("three")
    """, alone=True),
    program("recursion limit and umask", """
        import os, sys
        sys.setrecursionlimit(1500); old = os.umask(0o027); limit = 3000
        # %%
        print(sys.getrecursionlimit()); sys.setrecursionlimit(limit)
        # %%
        open("made.txt", "w").close(); oct(os.stat("made.txt").st_mode & 0o777)
        # %%
        os.umask(old) == 0o027
    """),
    program("rcParams", """
        import matplotlib as mpl, matplotlib.pyplot as plt
        plt.rcParams["figure.figsize"] = (3, 2); mpl.rc("lines", linewidth=5)
        # %%
        print(plt.rcParams["figure.figsize"], mpl.rcParams["lines.linewidth"])
        # %%
        plt.style.use("ggplot"); plt.rcParams["axes.grid"]
        # %%
        plt.rcdefaults(); mpl.rcParams["lines.linewidth"]
    """, alone=True),
    program("builtins and module attributes", """
        import builtins, math
        builtins.everywhere = [1]; math.tau2 = 12.5
        # %%
        everywhere.append(2); everywhere
        # %%
        print(math.tau2); del builtins.everywhere, math.tau2
    """),
    program("signal handler and context variable", """
        import contextvars, signal
        rang = []
        def on_usr1(number, frame): rang.append(signal.Signals(number).name)
        signal.signal(signal.SIGUSR1, on_usr1)
        # %%
        signal.raise_signal(signal.SIGUSR1); rang
        # %%
        signal.getsignal(signal.SIGUSR1) is on_usr1
    """, alone=True),
    program("replaced stdout and excepthook", """
        import io, sys
        real, sys.stdout = sys.stdout, io.StringIO()
        print("hidden"); text = sys.stdout.getvalue(); sys.stdout = real; del real
        # %%
        print("shown", repr(text))
        # %%
        import contextlib
        with contextlib.redirect_stdout(io.StringIO()) as kept: print("inside")
        kept.getvalue()
    """),
    program("settings of the interpreter, and the time zone", """
        import gc, os, sys, time
        before = sys.getswitchinterval(), sys.get_int_max_str_digits(), gc.get_threshold()
        sys.setswitchinterval(0.02); sys.set_int_max_str_digits(5000); gc.disable(); gc.set_threshold(500, 5, 5)
        os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
        # %%
        print(sys.getswitchinterval(), sys.get_int_max_str_digits(), gc.isenabled(), gc.get_threshold())
        print(time.localtime(0).tm_hour, time.tzname)
        # %%
        sys.setswitchinterval(before[0]); sys.set_int_max_str_digits(before[1]); gc.set_threshold(*before[2])
        gc.enable(); del os.environ["TZ"]; time.tzset()
        # %%
        before == (sys.getswitchinterval(), sys.get_int_max_str_digits(), gc.get_threshold()), gc.isenabled()
    """),
)  # fmt: skip
