"""What is known to leave nothing behind in its process, and to see nothing there that another process would not show.

Names of modules, what of them, built-in functions and attributes: what is not here, or in `libraries`, is not known.

They are not those of `harmless`, which is about the world outside: a file that was written leaves nothing in a process,
and one that is left open is found. But a number of a process, a setting of a library, or a cache that shows, is seen by
the next who runs there.
"""

from __future__ import annotations

from lambdakernel.parallel import libraries

_ANY = libraries.ANY
_NUMPY = frozenset({"numpy", "numpy.linalg", "numpy.fft", "numpy.random"})
_PARTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        "math cmath itertools operator statistics fractions bisect heapq numbers colorsys keyword base64 binascii"
        " struct zlib hashlib hmac unicodedata random datetime secrets collections.abc __future__".split(),
        _ANY,
    ),
    **dict.fromkeys(_NUMPY, _ANY),
    **libraries.PARTS,
    "array": frozenset({"array"}),
    "bz2": frozenset("open compress decompress".split()),
    "csv": frozenset(
        "reader writer DictReader DictWriter QUOTE_ALL QUOTE_MINIMAL QUOTE_NONE QUOTE_NONNUMERIC Error".split()
    ),
    "collections": frozenset("Counter OrderedDict defaultdict deque ChainMap abc".split()),
    "contextlib": frozenset({"suppress", "nullcontext"}),
    "copy": frozenset({"copy", "deepcopy"}),
    "dataclasses": frozenset("replace asdict astuple is_dataclass wrapper".split()),
    "decimal": frozenset(
        "Decimal ROUND_CEILING ROUND_DOWN ROUND_FLOOR ROUND_HALF_DOWN ROUND_HALF_EVEN ROUND_HALF_UP ROUND_UP".split()
    ),
    "functools": frozenset("reduce partial cmp_to_key".split()),
    "glob": frozenset({"glob", "iglob"}),
    "gzip": frozenset("open compress decompress".split()),
    "html": frozenset({"escape", "unescape"}),
    "io": frozenset("StringIO BytesIO open".split()),
    "json": frozenset("load loads dump dumps JSONDecodeError".split()),
    "lzma": frozenset("open compress decompress".split()),
    "os": frozenset(
        "path sep linesep listdir scandir walk stat makedirs mkdir remove unlink rmdir rename replace fspath".split()
    ),
    "os.path": frozenset(
        "join basename dirname split splitext normpath isabs commonprefix commonpath sep abspath realpath relpath"
        " exists lexists isfile isdir islink getsize getmtime samefile".split()
    ),
    "pathlib": frozenset("Path PosixPath PurePath PurePosixPath".split()),
    "re": frozenset(
        "compile match search fullmatch sub subn split findall finditer escape IGNORECASE I MULTILINE M DOTALL S"
        " VERBOSE X ASCII A Pattern Match error".split()
    ),
    "shutil": frozenset("copy copy2 copyfile copytree move rmtree".split()),
    "string": frozenset(
        "ascii_letters ascii_lowercase ascii_uppercase digits hexdigits octdigits printable punctuation whitespace"
        " capwords".split()
    ),
    "sys": frozenset("maxsize float_info byteorder version_info platform stdout stderr".split()),
    "textwrap": frozenset("dedent indent wrap fill shorten".split()),
    "time": frozenset(
        "sleep time time_ns monotonic monotonic_ns perf_counter perf_counter_ns gmtime localtime mktime strftime"
        " strptime asctime ctime".split()
    ),
}
_HOMES = {
    "posixpath": "os.path",
    "genericpath": "os.path",
    "numpy.random.mtrand": "numpy.random",
    "numpy.random._generator": "numpy.random",
    "numpy.random._pcg64": "numpy.random",
    "numpy.random.bit_generator": "numpy.random",
    "json.decoder": "json",
    "re._compiler": "re",
    "pathlib._local": "pathlib",
    "posix": "os",
}
"""Where some of these are defined, and the module that shows them."""

BUILTINS = frozenset(
    "abs all any ascii bin bool bytearray bytes callable chr complex dict divmod enumerate filter float format"
    " frozenset hex int isinstance issubclass iter len list map max memoryview min next oct open ord pow print range"
    " repr reversed round set slice sorted str sum super tuple zip True False None Ellipsis NotImplemented"
    " __debug__".split()
)
"""Built-in functions and classes; exceptions are allowed beside them."""

_DENIED = frozenset(
    "attrgetter methodcaller setflags flags resize register reconfigure detach close buffer fileno setstate getstate"
    " seterr seterrcall setbufsize geterr geterrcall getbufsize set_printoptions get_printoptions set_bit_generator"
    " get_bit_generator set_state get_state loadtxt genfromtxt fromfile fromregex memmap open_memmap test info"
    " show_config show_runtime get_include ma core lib ctypes ctypeslib f2py testing namedtuple typing warnings"
    " open_code run_cell run_line_magic system getoutput exec_module FileIO TextIOWrapper BufferedWriter BufferedRandom"
    " ExcelWriter HDFStore".split()
)
_CONNECTS = ("send", "fetch_", "upload", "download", "read_sql", "read_gbq", "show_versions", "sink_")
"""How attributes begin that may leave a connection, or a thread."""
_FRAMES = ("gi_", "cr_", "ag_", "tb_", "f_", "co_", "cache_", "__")
"""How attributes begin that lead to frames, code and caches, or mean something to Python itself."""
_MADE = frozenset({"__init__", "__post_init__"})
"""Such that a method asks its base for, or a class of data its own."""


def allows(module: str, name: str) -> bool:
    """Whether `name` of that module is known; `_io` is the C part of `io`."""
    home = libraries.home(module) if libraries.is_one(module) else _HOMES.get(module, module.removeprefix("_"))
    parts = _PARTS.get(home, frozenset())
    return (parts is _ANY or name in parts) and not name.startswith("_") and is_attribute(name)


def is_module(name: str) -> bool:
    """Whether something of that module is known."""
    return name in _PARTS


def is_of_library(name: str) -> bool:
    """Whether it is a module that does not come with Python."""
    return name in _NUMPY or name in libraries.PARTS


def is_attribute(name: str) -> bool:
    """Whether an attribute of that name may be asked of what known things give."""
    if name in _DENIED or libraries.is_denied(name) or (name.startswith(_FRAMES) and name not in _MADE):
        return False
    return not name.startswith(_CONNECTS)
