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
        *(f"{_SHARED}/lib{name}.so.*" for name in ("c", "dl", "m", "pthread", "resolv", "rt", "util")),
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
        "_pyrepl", "curses", "dbm", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "sqlite3", "test", "tkinter",
        "turtledemo", "unittest", "venv", "wsgiref", "xmlrpc",
    )),
    *(f"{_STDLIB}/{name}.py" for name in (
        "antigravity", "doctest", "pdb", "pydoc", "rlcompleter", "sitecustomize", "this", "turtle", "webbrowser",
    )),
    *(f"{_STDLIB}/lib-dynload/{name}*" for name in (
        "_bz2.", "_ctypes_test.", "_curses", "_dbm.", "_lzma.", "_sqlite3.", "_test", "_uuid.", "_xx", "readline.",
        "xx",
    )),
    *(f"*/{name}/*" for name in ("__pycache__", "_tests", "test", "testing", "tests")),
    *(f"*.{ending}" for ending in ("c", "h", "pxd", "pyi", "pyx", "rst")),
    "*/conftest.py",
)  # fmt: skip
"""Left out of packages and wheels: tests, interpreters for people, and modules whose library is not in the image."""

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
