"""Import python-iptables in a tenth of the usual time, without the programs that it would start.

A plain `import iptc` runs ldconfig, gcc and ld to find three libraries, runs modprobe twice, and imports setuptools.
But the dynamic linker already knows where these libraries are.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import glob
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import types
import warnings
from collections.abc import Iterator
from typing import Any

# the sonames of the libraries, newest first
_SONAMES = {
    "c": ("libc.so.6",),
    "xtables": ("libxtables.so.13", "libxtables.so.12", "libxtables.so.11"),
    "ip4tc": ("libip4tc.so.2", "libip4tc.so.0"),
    "ip6tc": ("libip6tc.so.2", "libip6tc.so.0"),
}


def load() -> types.ModuleType:
    """Import the module iptc and return it. Raises ImportError, OSError or iptc's own errors if it cannot work here."""
    if "iptc" in sys.modules:
        return sys.modules["iptc"]
    spec = importlib.util.find_spec("iptc")
    if spec is None or spec.loader is None:
        raise ImportError("python-iptables is not installed")
    package = importlib.util.module_from_spec(spec)
    with _quick_libraries(), _no_distutils(), _extensions(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its regular expressions have escapes that Python warns of
        sys.modules["iptc"] = package
        try:
            util: Any = importlib.import_module("iptc.util")
            util.load_kernel = lambda *_, **__: None  # labctl loads modules elsewhere, and reports it
            spec.loader.exec_module(package)
        except BaseException:
            for name in [name for name in sys.modules if name.partition(".")[0] == "iptc"]:
                del sys.modules[name]
            raise
    _patch_xtables(sys.modules["iptc.xtables"])
    return package


def _patch_xtables(xtables: Any) -> None:
    """Fix two defects of python-iptables.

    Its handler for errors in libxtables is a Python callback, and the longjmp out of it skips the callback's frame. The
    fix uses the C function directly. And it only knows struct xt_option_entry of iptables up to 1.8.10. With later
    releases it finds only the first option of each extension. The fix uses the real distance between options.
    """
    throw = ctypes.cast(xtables._lib_xtwrapper.throw_exception, xtables._EXIT_FN)
    xtables._xt_globals.exit_err = throw
    entry_type = xtables.xt_option_entry
    distance = 0

    def lookup(self: Any, entries: Any, name: bytes) -> Any | None:
        nonlocal distance
        distance = distance or _option_entry_bytes(self.find_match("udp")[0].x6_options, ctypes.sizeof(entry_type))
        at = ctypes.addressof(entries.contents)
        while (entry := entry_type.from_address(at)).name not in (None, name):
            at += distance
        return entry if entry.name else None

    xtables.xtables._option_lookup = lookup


def _option_entry_bytes(options: Any, min_bytes: int) -> int:
    """The number of bytes from one option to the next, in an extension with several options: `min_bytes` or a little
    more.

    The first field is a pointer to the name, and the names of one extension are close together in memory. Raises
    ValueError if there is no such distance.
    """
    first = ctypes.addressof(options.contents)
    pointer = ctypes.c_size_t
    for more in range(0, 4 * ctypes.sizeof(pointer), ctypes.sizeof(pointer)):
        apart = pointer.from_address(first + min_bytes + more).value - pointer.from_address(first).value
        if 0 < abs(apart) < 1 << 16:
            return min_bytes + more
    raise ValueError("the layout of libxtables' options is not known")


@contextlib.contextmanager
def _quick_libraries() -> Iterator[None]:
    """Let find_library ask the dynamic linker; the original starts a compiler."""
    original = ctypes.util.find_library

    def find(name: str) -> str | None:
        for soname in _SONAMES.get(name, ()):
            with contextlib.suppress(OSError):
                ctypes.CDLL(soname)
                return soname
        return None

    ctypes.util.find_library = find
    try:
        yield
    finally:
        ctypes.util.find_library = original


@contextlib.contextmanager
def _no_distutils() -> Iterator[None]:
    """Replace the only function of distutils that iptc uses; newer releases of Python have no distutils."""
    names = ("distutils", "distutils.sysconfig")
    kept = {name: sys.modules.get(name) for name in names}
    stub: Any = types.ModuleType("distutils.sysconfig")
    stub.get_python_lib = lambda: sysconfig.get_path("purelib")
    package: Any = types.ModuleType("distutils")
    package.sysconfig = stub
    sys.modules.update({"distutils": package, "distutils.sysconfig": stub})
    try:
        yield
    finally:
        for name, module in kept.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def _extensions() -> Iterator[None]:
    """Set the directory of xtables' extensions during the import only: child processes must use their own default."""
    if "XTABLES_LIBDIR" in os.environ:
        yield
        return
    os.environ["XTABLES_LIBDIR"] = extension_directory()
    try:
        yield
    finally:
        del os.environ["XTABLES_LIBDIR"]


def extension_directory() -> str:
    """The directory of xtables' extensions: next to the library that the linker found. Raises ImportError."""
    for soname in _SONAMES["xtables"]:
        with contextlib.suppress(OSError):
            ctypes.CDLL(soname)
            break
    with open("/proc/self/maps") as maps:
        found = re.search(r"(/\S*)/libxtables\.so", maps.read())
    beside = [f"{found[1]}/xtables"] if found else []
    for directory in (*beside, "/usr/libexec/xtables", "/usr/lib64/xtables", *glob.glob("/usr/lib/*/xtables")):
        if os.path.isdir(directory):
            return directory
    raise ImportError("cannot find the directory of xtables' extensions")
