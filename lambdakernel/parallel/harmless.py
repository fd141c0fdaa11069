"""What is known to do nothing outside its process: names of modules, and what of them is not.

A list of what is allowed, not of what is forbidden: what is not here may do anything. Of the modules that are, a few
names write files or start processes after all.
"""

from __future__ import annotations

STANDARD = frozenset(
    "__future__ abc array base64 binascii bisect builtins calendar cmath collections colorsys contextlib copy csv"
    " dataclasses datetime decimal difflib enum fractions functools graphlib hashlib heapq hmac html io itertools"
    " json keyword math numbers operator pprint queue random re reprlib secrets statistics string"
    " struct textwrap threading time traceback types typing unicodedata uuid warnings weakref zlib zoneinfo".split()
)
LIBRARIES = frozenset(
    "numpy scipy pandas polars sklearn sympy networkx statsmodels matplotlib mpl_toolkits seaborn kvs msgspec".split()
)
OWN = frozenset(
    {
        "os.path",
        "posixpath",
        "lambdakernel.live",
        "IPython.core.display",
        "IPython.core.display_functions",
        "IPython.display",
    }
)
PARTLY = {
    "os": frozenset(
        "path sep linesep pathsep curdir devnull environ getenv getpid getppid getcwd cpu_count fspath fsencode"
        " fsdecode urandom listdir scandir walk stat lstat sched_getaffinity sched_yield times uname get_terminal_size"
        " PathLike name getuid".split()
    ),
    "sys": frozenset(
        "maxsize version version_info float_info int_info byteorder platform stdout stderr argv getsizeof"
        " getrecursionlimit setrecursionlimit intern exc_info implementation path".split()
    ),
    "lambdakernel": frozenset({"Live", "live"}),
}
"""Modules of which these names alone are harmless."""

BUILTINS = frozenset(
    "open exec eval compile input breakpoint __import__ globals locals vars getattr help get_ipython".split()
)
"""Built-in functions that reach outside, or run what the text does not show."""

_NAMES = frozenset(
    "open open_memmap memmap dump tofile ExcelWriter HDFStore FileIO TextIOWrapper BufferedWriter BufferedRandom"
    " open_code run_cell run_line_magic system getoutput"
    " __globals__ __builtins__ __subclasses__ __loader__ __import__ __code__"
    " ctypes ctypeslib f2py exec_module".split()
)
_BEGIN = (
    "save",
    "write",
    "to_",
    "sink_",
    "send",
    "fetch_",
    "upload",
    "download",
    "read_sql",
    "read_gbq",
    "show_versions",
)
_KEPT = frozenset(
    "to_numpy to_list to_dict to_dicts to_frame to_datetime to_numeric to_timedelta to_period to_timestamp to_records"
    " to_series to_bytes to_integral_value to_eng_string to_pydatetime to_flat_index to_dense to_array to_dummies"
    " to_struct to_physical to_numpy_array to_numpy_matrix to_undirected to_directed to_rgb to_rgba to_hex"
    " to_julian_date to_networkx_graph to_pandas".split()
)


def is_module(name: str) -> bool:
    """Whether a module does nothing outside, but for what `is_name` says of its parts. `_io` is the C part of `io`."""
    top = name.partition(".")[0]
    return (
        top in STANDARD
        or top in LIBRARIES
        or top.removeprefix("_") in STANDARD
        or any(name == own or name.startswith(f"{own}.") for own in OWN)
    )


def is_name(name: str) -> bool:
    """Whether an attribute of that name, of something harmless, is harmless."""
    return name not in _NAMES and (name in _KEPT or not name.startswith(_BEGIN))
