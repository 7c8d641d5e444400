"""From a rule in python-iptables' memory to the words of iptables-save. Each extension prints its own options."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from labctl.core.iptables import split_words
from labctl.core.iptables_forms import protocol
from labctl.kernel.host.syscalls import libc

_IPV4 = 2
_FRAGMENT, _GOTO = 0x01, 0x02  # flags of struct ipt_ip
_INVERTED = {"-i": 0x01, "-o": 0x02, "-s": 0x08, "-d": 0x10, "-f": 0x20, "-p": 0x40}


class UnsupportedRule(Exception):
    """A rule that python-iptables cannot handle here; the tools must."""


class StdoutCapture:
    """Captures what extensions print: meanwhile the C library has another stdout, a memory stream.

    Descriptor 1, the standard output of the process, does not change: Python and child processes still write to it.
    """

    def __init__(self) -> None:
        self._stdout = ctypes.c_void_p.in_dll(libc, "stdout")
        self._text, self._size = ctypes.c_void_p(), ctypes.c_size_t()

    def __enter__(self) -> StdoutCapture:
        make = libc.open_memstream
        make.restype = ctypes.c_void_p
        self._stream = make(ctypes.byref(self._text), ctypes.byref(self._size))
        if not self._stream:
            raise OSError("open_memstream: out of memory")
        return self

    def __exit__(self, *exc: object) -> None:
        libc.fclose(ctypes.c_void_p(self._stream))
        libc.free(self._text)

    def prove(self) -> None:
        """Raise OSError if the C library does not print to the replaced stdout."""
        if self.catch(lambda: (libc.printf(b"%s", b"proof"), libc.fflush(self._stdout))) != "proof":
            raise OSError("the C library's stdout cannot be replaced")

    def catch(self, work: Any) -> str:
        """Call `work` and return what the C library printed during the call. `work` must flush stdout."""
        start, before = self._size.value, self._stdout.value
        self._stdout.value = self._stream
        try:
            work()
        finally:
            self._stdout.value = before
        return ctypes.string_at((self._text.value or 0) + start, self._size.value - start).decode()


class RuleFormatter:
    """Converts the rules of one open table to words."""

    def __init__(self, iptc: Any, table: Any, printer: StdoutCapture) -> None:
        self._xt = _xtables(iptc)
        self._table = table
        self._printer = printer
        self._first = ctypes.sizeof(iptc.ip4tc.ipt_entry)  # the offset of the matches
        self._match = ctypes.POINTER(iptc.xtables.xt_entry_match)
        self._target = ctypes.POINTER(iptc.xtables.xt_entry_target)

    def rule_args(self, entry: Any) -> Iterator[str]:
        """The words of one rule; `entry` is a pointer into the table. Raises UnsupportedRule."""
        rule = entry.contents
        yield from _head(rule.ip)
        base, at = ctypes.addressof(rule), self._first
        while at < rule.target_offset:
            match = ctypes.cast(base + at, self._match)
            header = match.contents.u
            yield "-m"
            yield from self._extension(self._xt.find_match(header.user.name), header, rule.ip, match)
            at += header.match_size
        name = self._table._iptc.iptc_get_target(entry, self._table._handle)
        if not name:
            return
        target = ctypes.cast(base + rule.target_offset, self._target)
        header = target.contents.u
        yield "-g" if rule.ip.flags & _GOTO else "-j"
        if header.user.name:
            yield from self._extension(self._xt.find_target(header.user.name), header, rule.ip, target)
        else:
            yield name.decode()

    def _extension(self, found: Any, header: Any, ip: Any, pointer: Any) -> Iterator[str]:
        """The name and options of one match or target. Raises UnsupportedRule if the library does not have the revision
        of the rule."""
        name = header.user.name
        if not found or found[0].revision != header.user.revision:
            raise UnsupportedRule(f"{name.decode()} has a revision that this library does not know")
        module = found[0]
        alias = module.alias(pointer) if module.alias else None
        yield (alias or name).decode()
        if module.save:
            yield from split_words(self._printer.catch(lambda: self._xt.save(module, ip, pointer)))


@cache
def _xtables(iptc: Any) -> Any:
    """libxtables, initialised once. python-iptables holds it weakly, and would do that again for each table."""
    return iptc.ip4tc.xtables(_IPV4)


def _head(ip: Any) -> Iterator[str]:
    def flagged(flag: str) -> tuple[str, ...]:
        return ("!", flag) if ip.invflags & _INVERTED[flag] else (flag,)

    for flag, address, mask in (("-s", ip.src.s_addr, ip.smsk.s_addr), ("-d", ip.dst.s_addr, ip.dmsk.s_addr)):
        if address or mask or ip.invflags & _INVERTED[flag]:
            yield from flagged(flag)
            yield _network(address, mask)
    for flag, name, mask in (("-i", ip.iniface, ip.iniface_mask), ("-o", ip.outiface, ip.outiface_mask)):
        if mask or ip.invflags & _INVERTED[flag]:
            yield from flagged(flag)
            # the mask covers the name with its final NUL, or only the part before a "+" (not all writers store the "+")
            yield name[: len(mask)].decode() + ("" if len(mask) > len(name) else "+")
    if ip.proto:
        yield from flagged("-p")
        yield protocol(str(ip.proto)) or "0"
    if ip.flags & _FRAGMENT:
        yield from flagged("-f")


def _network(address: int, mask: int) -> str:
    """An address and a mask in the form of iptables-save. Both are in network byte order, as in the kernel."""
    shown = ".".join(str(byte) for byte in address.to_bytes(4, sys.byteorder))
    octets = mask.to_bytes(4, sys.byteorder)
    bits = int.from_bytes(octets, "big")
    length = bin(bits).count("1")
    if bits == 0xFFFFFFFF << (32 - length) & 0xFFFFFFFF:
        return f"{shown}/{length}"
    return f"{shown}/{'.'.join(str(byte) for byte in octets)}"
