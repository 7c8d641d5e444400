"""The options of links: a number that its attribute cannot hold is refused, and a multicast destination is a group."""

from __future__ import annotations

import pytest

from labctl.kernel.netlink.link_options import OPTIONS, info_data, read_options
from labctl.kernel.netlink.rtnetlink import encode_attribute

NUMBERS = [
    (kind, name, 2 ** {"u8": 8, "u16": 16, "be16": 16, "u32": 32}[option.form])
    for kind, table in OPTIONS.items()
    for name, option in table.items()
    if option.form in ("u8", "u16", "be16", "u32") and name != "mode" and option.name
]


@pytest.mark.parametrize(("kind", "name", "end"), NUMBERS)
def test_a_number_that_does_not_fit_is_refused(kind: str, name: str, end: int) -> None:
    assert info_data(kind, [(name, str(end - 1))], None) == [(OPTIONS[kind][name].name, end - 1)]
    for wrong in (end, -1):
        with pytest.raises(ValueError, match=f"{name} {wrong} is out of bounds: from 0 up to {end - 1}"):
            info_data(kind, [(name, str(wrong))], None)


@pytest.mark.parametrize(("packed", "word"), [(bytes([192, 0, 2, 1]), "remote"), (bytes([239, 1, 1, 1]), "group")])
def test_a_multicast_destination_of_a_vxlan_is_a_group(packed: bytes, word: str) -> None:
    data = encode_attribute(OPTIONS["vxlan"]["remote"].number, packed)
    assert read_options("vxlan", data, 0, len(data), str) == ((word, ".".join(map(str, packed))),)
