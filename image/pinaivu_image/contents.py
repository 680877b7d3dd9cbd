"""What an image is made of: which packages, and which of their files. Everything else in a package is left out.

Patterns are those of `fnmatch`, so `*` goes across folders. `BOOT_FILES` is an allow-list: a file that no pattern names
does not get into the image, and a pattern that names no file is an error: a renamed file must not vanish silently.
"""

from collections.abc import Mapping
from typing import Final

SUITE: Final = "trixie"
PYTHON: Final = "3.13"
MACHINE: Final = "x86_64-linux-gnu"
KERNEL_SOURCE: Final = "linux-source-6.12"

BUILD_PACKAGES: Final = (
    "bc", "binutils", "bison", "bzip2", "coreutils", "cpio", "dash", "diffutils", "findutils", "flex", "gawk", "gcc-14",
    "grep", "gzip", "libc6-dev", "libelf-dev", "libpython3.13-dev", "libssl-dev", "make", "perl", "python3.13-minimal",
    "sed", "tar", "xz-utils",
)  # fmt: skip
"""Compiler and tools of the build root. Nothing of them gets into an image."""

_STDLIB: Final = f"usr/lib/python{PYTHON}"
_SHARED: Final = f"usr/lib/{MACHINE}"

BOOT_FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "libc6": (
        f"{_SHARED}/ld-linux-x86-64.so.2",
        "usr/lib64/ld-linux-x86-64.so.2",
        *(f"{_SHARED}/lib{name}.so.*" for name in ("c", "m", "pthread")),
    ),
    "libexpat1": (f"{_SHARED}/libexpat.so.*",),
    "libffi8": (f"{_SHARED}/libffi.so.*",),
    "libgcc-s1": (f"{_SHARED}/libgcc_s.so.*",),
    "libpython3.13-minimal": (f"{_STDLIB}/*",),
    "libpython3.13-stdlib": (f"{_STDLIB}/*",),
    "libssl3t64": (f"{_SHARED}/libcrypto.so.*", f"{_SHARED}/libssl.so.*"),
    "libzstd1": (f"{_SHARED}/libzstd.so.*",),
    "python3.13-minimal": (f"usr/bin/python{PYTHON}",),
    "zlib1g": (f"{_SHARED}/libz.so.*",),
}
"""The first ramdisk's Debian packages, and what is taken of each beside its copyright."""

LEFT_OUT: Final = (
    *(f"{_STDLIB}/{name}/*" for name in (
        "__phello__", "_pyrepl", "asyncio", "concurrent", "config-*", "curses", "dbm", "ensurepip", "html", "http",
        "idlelib", "lib2to3", "multiprocessing", "pydoc_data", "sqlite3", "sysconfig", "test", "tkinter", "tomllib",
        "turtledemo", "unittest", "venv", "wsgiref", "xml", "xmlrpc", "zoneinfo",
    )),
    *(f"{_STDLIB}/{name}.py" for name in (
        "__hello__", "_*_support", "_compat_pickle", "_distutils_system_mod", "_markupbase", "_pydatetime",
        "_pydecimal", "_pyio", "_sysconfigdata_*", "antigravity", "bdb", "bz2", "cProfile", "cmd", "code", "codeop",
        "colorsys", "compileall", "configparser", "ctypes/_aix", "ctypes/wintypes", "difflib", "doctest", "filecmp",
        "fileinput", "ftplib", "getopt", "getpass", "graphlib", "imaplib", "json/tool", "logging/config",
        "logging/handlers", "lzma", "mailbox", "mimetypes", "modulefinder", "netrc", "nturl2path", "optparse", "pdb",
        "pickle", "pickletools", "plistlib", "poplib", "profile", "pstats", "pty", "py_compile", "pyclbr", "pydoc",
        "rlcompleter", "sched", "shelve", "shlex", "sitecustomize", "smtplib", "socketserver", "sre_*", "statistics",
        "symtable", "tabnanny", "tarfile", "this", "timeit", "trace", "tracemalloc", "tty", "turtle", "urllib/error",
        "urllib/re*", "urllib/robotparser", "wave", "webbrowser", "zipapp",
    )),
    *(f"{_STDLIB}/encodings/{name}.py" for name in (
        "big5*", "bz2_codec", "cp932", "cp949", "cp950", "euc_*", "gb*", "hz", "iso2022_*", "johab", "mbcs", "oem",
        "shift_jis*",
    )),
    *(f"{_STDLIB}/lib-dynload/{name}*" for name in (
        "_asyncio.", "_bz2.", "_codecs_", "_ctypes_test.", "_curses", "_dbm.", "_interp", "_lsprof.", "_lzma.",
        "_multi", "_posixshmem.", "_sqlite3.", "_test", "_uuid.", "_xx", "_zoneinfo.", "mmap.", "readline.",
        "resource.", "termios.", "xx",
    )),
    f"{_STDLIB}/EXTERNALLY-MANAGED",
    *(f"/cffi/{name}.py" for name in (
        "_cffi_gen_src", "_imp_emulation", "_shimmed_dist_utils", "backend_ctypes", "cffi_opcode", "ffiplatform",
        "gen_src", "pkgconfig", "recompiler", "setuptools_ext", "vengine_*", "verifier",
    )),
    *("/cbor2/tool.py", "/idna/cli.py", "/pycparser/_*_gen.py", "/trio/_repl.py", "/trio/_tools/*"),
    *(f"/*.dist-info/{name}" for name in ("RECORD", "WHEEL", "entry_points.txt", "sboms/*", "top_level.txt")),
    *(f"*/{name}/*" for name in ("__pycache__", "_tests", "test", "testing", "tests")),
    *(f"*.{ending}" for ending in ("c", "cfg", "h", "pxd", "pyi", "pyx", "rst")),
    *(f"*/{name}" for name in ("__main__.py", "conftest.py", "py.typed")),
)  # fmt: skip
"""Left out of packages (`usr/…`) and wheels (`/…`): tests, tools and prompts for people, other systems' parts, modules
whose library is not in the image, and what the enclave has no use for and an intruder has: network protocols, pickle,
compilers, other ways to start processes. What libraries import only when it is needed has to stay: traceback and all
it prints with, codecs, and what cbor2 makes of tags (fractions, email, ipaddress, uuid), which strangers may send.
"""

LIBRARIES: Final = "usr/lib/python3/dist-packages"
"""Where the wheels go, in the first ramdisk."""

APPLICATION: Final = f"usr/local/lib/python{PYTHON}/dist-packages"
"""Where our packages go, in the second ramdisk."""

APPLICATION_PACKAGES: Final = ("enclave/pinaivu_enclave", "shared/pinaivu_shared")
"""Our packages, as they lie in a checkout."""

APPLICATION_FILES: Final = ("*.py", "*.pem")
BUILD_ONLY: Final = ("pinaivu_enclave/init.py", "pinaivu_enclave/nsm/extension.py")
"""Ours, but not for the second ramdisk: what becomes `/init`, and the source of the extension that is compiled."""

INIT: Final = "enclave/pinaivu_enclave/init.py"
EXTENSION: Final = "pinaivu_enclave/nsm/_nsm_ioctl.abi3.so"
FOLDERS: Final = ("dev", "proc", "run", "sys", "tmp")
LINKS: Final = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64"}
