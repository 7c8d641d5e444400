"""What is put into good input to damage it, and how. Pure, given the random numbers."""

from __future__ import annotations

import json
import random
from typing import Any

SCRAPS = (
    "- ", ": ", "{", "}", "[", "]", "\n", "  ", "\t", "&a ", "*a", "!!", "|", ">", "'", '"', "#", "---\n", "? ",
    "%", "-h", "../..", "null", "~", "count: ", "99999999999999999999", "-1", "0x7f", "1e9", "\0", "\u202e", "é",
    "\ud800", "\udcff", "10.0.0.0/8", "::/0", "fe80::1%eth0", "a -> b", "<<: *a", "127.1", "!", "\x1b[0m", "via",
    "lladdr", "-j", "lo", ".", ",", "=", "/", "\\", "$(id)", "`id`", "; id", "%s", "{0}", "a" * 300, "[" * 200,
    "9" * 5000, "\u0661", "ﬁ", "🜚",
)  # fmt: skip
WORDS = (
    "nodes", "node1", "pods", "a", "checks", "0", "1", "model", "name", "pod_cidr", "mtu", "count", "routing",
    "networks", "containers", "firewall", "sysctls", "net.ipv4.ip_forward", "links", "hosts", "", "-1", "*",
    "break", "approximate",
)  # fmt: skip
VALUES = (
    "5", "a", "[]", "{}", "[a, b]", "{count: 3, pods: 2}", "10.1.0.0/16", "null", "true", "''", "1400", "raw",
    "kubenet", "{pods: [a]}", "[{ping: a -> c}]", "[&x [1, 2], *x]", "!!int 5", "'5'", "0", "1e3", "2001:db8::/64",
    "host",
)  # fmt: skip
CHECKS = (
    "ping: a -> c", "tcp: a -> c:8080, expect: refused", "udp: a -> c:53, listen: false",
    "ping: a -> internet, size: 1400", "say: all, ping: a -> c, see: {at: node2/eth0, src: a, dst: c, ttl: 62}",
    "udp: 'a:4000 -> c:53', within: 3s", "ping: a -> c, not see: {at: node1/cbr0, direction: in, packet: reply}",
    "mesh: pods, routers: 1", "tcp: a -> 10.0.0.1:80, expect: timeout, see: [{at: node1/eth0, encap: none}]",
    "ping: a -> c, expect: fail",
)  # fmt: skip
SETS = (
    "mtu=1400", "pod_cidr=10.1.0.0/16", "nodes.node1.pods=[a, b]", "nodes={count: 2, pods: 2}", "routing=host",
    "name=other", "checks=[{ping: a -> c}]", "checks.0.ping=b -> c", "approximate=true",
    "break=[route-missing node1]",
)  # fmt: skip
COMMANDS = (
    "plan kubenet", "plan kubenet --as shell", "plan kubenet --json --set mtu=1400", "list --json",
    "list --scenarios", "validate kubenet", "validate x.yaml /etc/passwd", "schema", "-l fuzz status",
    "check -k x --junit out.xml", "trace a c --tcp 80 --sport 5", "capture a --count 1 -w out.pcapng",
    "up kubenet --dry-run", "down fuzz", "exec a -- true", "shell a", "show a --json", "break --list", "fix --show",
    "compare kubenet pods", "--version", "up kubenet --name x --set mtu=9 --firewall nft", "run -- true",
    "--rootless list", "break --random --seed 3",
)  # fmt: skip
LEAVES = (
    "--set=nodes.node1.pods=5", "--set", "mtu=9", "5", "x.yaml", "/etc/passwd", "/dev/null", ".", "-", "--json",
    "-k", "10.0.0.1", "2001:db8::1", "--tcp", "80", "--help",
)  # fmt: skip
_JSON: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 1.5, 1e308, 10**30, "", "a", "a/b", "../..", "\0", "\ud800", "x" * 300, [], {},
    [None], [[]], {"a": 1}, [1, "a"], "10.0.0.1", "10.0.0.0/33", "link", "a/eth0", [["a"]], {"": {}}, "eth0\n",
)  # fmt: skip


def damaged_text(chance: random.Random, text: str, most: int = 4) -> str:
    """A text with scraps put in, parts cut out, lines doubled or moved, at `most` places, and mostly at one."""
    for _ in range(chance.randint(1, chance.choice((1, 1, most)))):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 3, 12, 80)))
        how = chance.random()
        if how < 0.7:
            text = text[:start] + chance.choice(SCRAPS) + text[end:]
        elif how < 0.85:
            text = text[:start] + text[end:]
        else:
            lines = text.splitlines(keepends=True) or [""]
            lines.insert(chance.randint(0, len(lines)), chance.choice(lines))
            text = "".join(lines)
    return text


def damaged_document(chance: random.Random, document: Any, data: bytes | None = None) -> bytes:
    """The bytes of a JSON document with other values, missing keys, or bytes cut out and put in; `data` instead of the
    document if it is given."""
    if data is None:
        for _ in range(chance.randint(0, 3)):
            document = _changed(chance, document, chance.randint(0, 8))
        data = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance.random() < 0.4:
        for _ in range(chance.randint(1, 4)):
            start = chance.randint(0, len(data))
            end = min(len(data), start + chance.choice((0, 1, 1, 5, 100, 10_000)))
            scrap = chance.choice(
                (b"", b"\0", b"\xff", b"{", b"[" * 5000, b"\n", b'"', b"9" * 5000, b"NaN", b"\xed\xa0\x80")
            )
            data = data[:start] + scrap + data[end:]
    return data


def _changed(chance: random.Random, value: Any, depth: int) -> Any:
    """A JSON value in which one value, somewhere inside, is another one, or missing."""
    if depth and isinstance(value, dict) and value:
        key = chance.choice(sorted(value))
        if chance.random() < 0.1:
            return {name: inner for name, inner in value.items() if name != key}
        if chance.random() < 0.05:
            return {**value, chance.choice(("strange", "", "object", "\0")): chance.choice(_JSON)}
        return {**value, key: _changed(chance, value[key], depth - 1)}
    if depth and isinstance(value, list) and value:
        index = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:index] + value[index + 1 :]
        return [*value[:index], _changed(chance, value[index], depth - 1), *value[index + 1 :]]
    if isinstance(value, str) and chance.random() < 0.5:
        return damaged_text(chance, value, most=1)
    return chance.choice(_JSON)
