"""The routing rules of every new namespace, read as the objects that the diff has for them; no other rule is taken for
one."""

from __future__ import annotations

import pytest

from labctl.core.kernel_defaults import kernel_default_rules
from labctl.core.resources import Rule
from labctl.kernel.netlink import dump
from labctl.kernel.netlink.messages import AF_INET, AF_INET6
from labctl.kernel.observe import snapshot

LOCAL = {"family": AF_INET, "action": 1, "pref": 0, "table": 255, "src": None, "dst": None, "iif": None, "oif": None,
         "fwmark": None, "fwmask": None, "flags": 0}  # fmt: skip


def read(monkeypatch: pytest.MonkeyPatch, **fields: object) -> object:
    raw = dump.RawRule(**{**LOCAL, **fields})  # type: ignore[arg-type]
    for table in ("links", "addresses", "routes", "neighbours"):
        monkeypatch.setattr(dump, table, lambda *_, **__: iter(()))
    monkeypatch.setattr(dump, "rules", lambda _: iter([raw]))
    current = snapshot.Snapshot()
    current.add("n", ())
    (found,) = snapshot.tables(None, current, "n", lambda *_: None)  # type: ignore[arg-type]
    return found


def test_the_rules_that_the_kernel_creates_are_those_of_the_diff(monkeypatch: pytest.MonkeyPatch) -> None:
    for family, version in ((AF_INET, 4), (AF_INET6, 6)):
        for rule in kernel_default_rules("n", version):
            assert read(monkeypatch, family=family, pref=rule.pref, table=rule.table) is rule


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"table": 254}, Rule("n", 0, 254)),
        ({"pref": 1}, Rule("n", 1, 255)),
        ({"iif": "eth0"}, Rule("n", 0, 255, iif="eth0")),
        ({"fwmark": 1, "fwmask": 0xFFFFFFFF}, Rule("n", 0, 255, mark=1)),
        ({"flags": 2}, Rule("n", 0, 255, invert=True)),
        ({"action": 6}, Rule("n", 0, kind="blackhole")),
        ({"family": AF_INET6, "pref": 32767, "table": 253}, Rule("n", 32767, 253, 6)),
    ],
)
def test_a_rule_that_differs_is_itself(fields: dict[str, object], rule: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, **fields) == rule
