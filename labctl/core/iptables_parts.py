"""The parts of a firewall rule's words: the options at its head, the matches, the target. One splitter for all tools.

iptables-save and ebtables-save print a rule in this order. The values of some flags can look like a flag (a comment
`-j`, an interface `-m`), so no other module looks for flags among the words of a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

HEAD_FLAGS = ("-s", "-d", "-i", "-o", "-p", "-f")  # what iptables-save prints first, in this order
BRIDGE_HEAD_FLAGS = ("-p", "-s", "-d", "-i", "--logical-in", "-o", "--logical-out")  # and ebtables-save
FREE_TEXT_OPTIONS = (  # the value may be any text, also one like a flag
    *("--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix"),
    *("--string", "--hex-string", "--u32", "--bytecode"),
)
_HEAD = frozenset((*HEAD_FLAGS, *BRIDGE_HEAD_FLAGS))
_FIRST = frozenset(("-m", "-j", "-g"))  # the first word of a match or target; its name follows
_VALUE_FOLLOWS = _FIRST.union(FREE_TEXT_OPTIONS, _HEAD - {"-f"})
_MAY_PRECEDE_A_VALUE = _VALUE_FOLLOWS | {"!"}


@dataclass(frozen=True, slots=True)
class RuleOption:
    """One flag with its values: `-p tcp`, `! -i eth0` (ebtables: `-i ! eth0`), `--tcp-flags FIN,SYN SYN`."""

    args: tuple[str, ...]

    @property
    def flag(self) -> str:
        """The flag itself; "" for values without a flag, which no tool prints."""
        word = self.args[1] if self.args[0] == "!" and len(self.args) > 1 else self.args[0]
        return word if word.startswith("-") else ""

    @property
    def negated(self) -> bool:
        """Whether a ! is before the flag or, for ebtables, after it."""
        return self.args[0] == "!" or (self.args[1:2] == ("!",) and self.args[0] not in FREE_TEXT_OPTIONS)

    @property
    def values(self) -> tuple[str, ...]:
        """The words after the flag and its !."""
        return self.args[1 + self.negated :]


@dataclass(frozen=True, slots=True)
class RulePart:
    """One match (`-m NAME`) or the target (`-j NAME`, `-g NAME`) with its options. ebtables prints the options of its
    matches without `-m`: all of them are one part, with the name ""."""

    args: tuple[str, ...]

    @property
    def flag(self) -> str:
        """`-m`, `-j`, `-g`, or "" for the matches of ebtables."""
        return self.args[0] if self.args[0] in _FIRST and len(self.args) > 1 else ""

    @property
    def name(self) -> str:
        """The name of the match, target or chain."""
        return self.args[1] if self.flag else ""

    @property
    def options(self) -> tuple[RuleOption, ...]:
        """The options in order."""
        return tuple(split_options(self.args[2 if self.flag else 0 :]))


def part_positions(args: Sequence[str]) -> list[int]:
    """Where the matches with `-m` and the target begin in a rule's words. A name follows each."""
    found = [position for position, word in enumerate(args[:-1]) if word in _FIRST]
    for position in found:
        if args[position - 1] in _MAY_PRECEDE_A_VALUE:  # rare: then look which words are values
            return _walk_part_positions(args)
    return found


def part_names(rules: Iterable[Sequence[str]]) -> dict[tuple[str, str], None]:
    """The matches with `-m` and the targets of rules (given by their words), as (`-m`, `-j` or `-g`, name): each once,
    in order. Cheaper than `split_parts`; ebtables does not name its matches."""
    rules = tuple(rules)
    words = list(chain.from_iterable(rules))
    found = [position for position, word in enumerate(words[:-1]) if word in _FIRST]
    if any([words[position - 1] in _MAY_PRECEDE_A_VALUE for position in found]) or any(
        [one[-1] in _FIRST for one in rules if one]
    ):  # rare: then look at each rule
        return dict.fromkeys([(one[position], one[position + 1]) for one in rules for position in part_positions(one)])
    return dict.fromkeys([(words[position], words[position + 1]) for position in found])


def target_position(args: Sequence[str]) -> int | None:
    """Where the target begins in a rule's words (-j or -g); None for a rule without one."""
    for flag in ("-j", "-g"):
        if flag in args[:-1]:
            position = args.index(flag)
            if args[position - 1] in _MAY_PRECEDE_A_VALUE:  # rare: then look which words are values
                break
            return position
    return next((position for position in part_positions(args) if args[position] != "-m"), None)


def head_options(args: Sequence[str]) -> Iterator[RuleOption]:
    """The options at the beginning of a rule's words, before the first match or target."""
    start = 0
    for _, end in _head_flags(args):
        yield RuleOption(tuple(args[start:end]))
        start = end


def split_options(args: Sequence[str]) -> Iterator[RuleOption]:
    """The options of one match or target: each flag with its ! and its values."""
    group: list[str] = []
    words = enumerate(args, 1)
    for following, word in words:
        negates = word == "!" and following < len(args) and args[following].startswith("-")
        if (negates or word.startswith("-")) and group and group != ["!"]:
            yield RuleOption(tuple(group))
            group = []
        group.append(word)
        if word in FREE_TEXT_OPTIONS and following < len(args):
            group.append(next(words)[1])
    if group:
        yield RuleOption(tuple(group))


def head_length(args: Sequence[str]) -> int:
    """How many of a rule's words are before its first match or target."""
    return max((end for _, end in _head_flags(args)), default=0)


def protocol_position(args: Sequence[str]) -> int | None:
    """Where the protocol is in a rule's words (the value of -p); None for a rule without one."""
    if "-p" in args:  # fast: this is called for every rule that is read or written
        for flag, end in _head_flags(args):
            if args[flag] == "-p":
                return end - 1 if end <= len(args) else None
    return None


def split_parts(args: tuple[str, ...]) -> tuple[RulePart, ...]:
    """The matches and the target in a rule's words, in order: all words after the head."""
    head = head_length(args)
    borders = part_positions(args)
    if head < (borders[0] if borders else len(args)):
        borders.insert(0, head)
    return tuple(RulePart(args[start:end]) for start, end in pairwise((*borders, len(args))))


def _head_flags(args: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The flags at the head of a rule's words: where each is, and where its value ends."""
    position = 0
    while position < len(args):
        flag = position + (args[position] == "!")
        if flag >= len(args) or args[flag] not in _HEAD:
            return
        position = flag + 1
        if args[flag] != "-f":
            position += 1 + (position < len(args) and args[position] == "!")  # ebtables: -i ! eth0
        yield flag, position


def _walk_part_positions(args: Sequence[str]) -> list[int]:
    found = []
    words = enumerate(args)
    for position, word in words:
        if word in _VALUE_FOLLOWS and position + 1 < len(args):
            _, value = next(words)
            if word in _FIRST:
                found.append(position)
            elif value == "!" and word in _HEAD:  # ebtables: -i ! eth0
                next(words, None)
    return found
