"""What nft says of a text becomes a place in the object that the text was made of."""

from __future__ import annotations

from labctl.core.nft_objects import base_chain, chain, set_
from labctl.core.nft_refusals import refusals
from labctl.core.nft_ruleset import input_text
from labctl.core.resources import NftObject

OBJECTS = (
    NftObject("n", "inet t", "table"),
    set_("n", "inet t", "s", ["192.0.2.1", "fe80::1"], type="ipv4_addr"),
    base_chain("n", "inet t", "c", ["accept", "tcp dport 99999 drop"], type="filter", hook="input", priority="0"),
    chain("n", "inet t", "u", ["ct state new acept"]),
)
SCRIPT = input_text(OBJECTS)


def error(word: str, reason: str) -> str:
    """What nft prints of the first such word in the script."""
    number, line = next((number, line) for number, line in enumerate(SCRIPT.split("\n"), 1) if word in line)
    first = line.index(word) + 1
    return f"/dev/stdin:{number}:{first}-{first + len(word) - 1}: Error: {reason}\n{line}\n    ^^^^"


def test_a_rule_and_its_word() -> None:
    (one,) = refusals(SCRIPT, error("99999", "Service out of range"), OBJECTS)
    assert (one.item, one.line, one.word, one.reason) == (
        *(OBJECTS[2], "tcp dport 99999 drop", "99999"), "Service out of range",
    )  # fmt: skip
    assert str(one) == "'tcp dport 99999 drop': Service out of range"


def test_an_element() -> None:
    (one,) = refusals(SCRIPT, error("fe80::1", "Could not resolve hostname"), OBJECTS)
    assert (one.item, one.line) == (OBJECTS[1], "fe80::1")


def test_a_chain_and_the_words_of_the_kernel() -> None:
    (one,) = refusals(SCRIPT, error("u {", "Could not process rule: Operation not supported"), OBJECTS)
    assert (one.item, one.line, one.reason) == (OBJECTS[3], "", "Operation not supported")


def test_several_errors_and_other_commands_before_the_text() -> None:
    script = f"flush chain inet t c\n{SCRIPT}"
    said = error("acept", "syntax error, unexpected string") + "\n" + error("99999", "Service out of range")
    moved = said.replace("stdin:", "stdin:").split("\n")
    numbers = [line for line in moved if line.startswith("/dev/stdin")]
    for line in numbers:
        number = int(line.split(":")[1])
        said = said.replace(f"stdin:{number}:", f"stdin:{number + 1}:", 1)
    found = refusals(script, said, OBJECTS)
    assert [one.line for one in found] == ["ct state new acept", "tcp dport 99999 drop"]


def test_what_has_no_place_is_still_told() -> None:
    (one,) = refusals(SCRIPT, "netlink: Error: cache initialization failed\n", OBJECTS)
    assert (one.item, one.reason) == (None, "netlink: Error: cache initialization failed")
    assert [one.reason for one in refusals(SCRIPT, "", OBJECTS)] == ["nft failed"]
