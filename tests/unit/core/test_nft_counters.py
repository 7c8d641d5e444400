"""What rules of nft counted, from a listing."""

from __future__ import annotations

import pytest

from labctl.core.nft_counters import parse_counters

TEXT = """
table ip t { # handle 3
	comment "packets 1 bytes 2"
	map m {
		type ifname : verdict
		counter
		elements = { "a" counter packets 3 bytes 9 : jump b }
	}
	chain a { # handle 1
		type filter hook forward priority filter; policy accept;
		counter packets 5 bytes 300 drop comment "packets 9 bytes 9" # handle 7
		ip saddr 10.0.0.1 accept
		counter packets 1 bytes 60 jump b
		counter packets 2 bytes 120 jump b
	}
	chain b {
		log prefix "packets 7 bytes 7" counter packets 0 bytes 0
	}
}
table inet t {
	chain a {
		counter packets 8 bytes 1 accept
	}
}
"""


def test_each_rule_has_its_own_counts() -> None:
    found = {(one.item.table, one.item.kind, one.item.name): one for one in parse_counters("n", TEXT)}

    assert found["ip t", "chain", "a"].counters == ((5, 300), None, (1, 60), (2, 120))
    assert found["ip t", "chain", "a"].item.entries[0] == 'counter drop comment "packets 9 bytes 9"'
    assert found["ip t", "chain", "b"].counters == ((0, 0),)
    assert found["inet t", "chain", "a"].counters == ((8, 1),)
    assert found["ip t", "map", "m"].counters == (None,)
    assert found["ip t", "table", ""].counters == ()


def test_a_table_without_a_family_is_of_ip() -> None:
    (_, chain) = parse_counters("n", "table t { chain a { counter packets 1 bytes 2 accept; }; }")
    assert (chain.item.table, chain.counters) == ("ip t", ((1, 2),))


def test_what_lists_no_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a table of nft"):
        list(parse_counters("n", "Error: no such table"))
