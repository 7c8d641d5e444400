"""The matches and targets of iptables and ebtables with their options: what a rule may say, and which words the tools
would take for commands.

An extension that `labctl.core.iptables_extension_list` does not have does not exist for labctl. So no option of a rule
can be one of iptables itself, however getopt_long(3) would complete or split it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from typing import Any, Literal, TypeAlias

from labctl.core.iptables_extension_list import (
    BRIDGE_MATCHES,
    BRIDGE_TARGETS,
    MAIN_OPTIONS,
    MATCHES,
    REFUSED,
    TARGETS,
)
from labctl.core.iptables_parts import BRIDGE_HEAD_FLAGS, FREE_TEXT_OPTIONS, HEAD_FLAGS, RulePart, split_parts
from labctl.core.names import did_you_mean

TableName: TypeAlias = str
PartKind: TypeAlias = Literal["-m", "-j"]

_ALIASES = {"icmpv6": "icmp6", "ipv6-icmp": "icmp6", "ipv6-mh": "mh", "mobility-header": "mh"}  # as libxtables has them
_HEAD_FLAGS = ("-s", "-d", "-i", "-o", "-p", "-m", "-j", "-g")
_HEADS = frozenset((*HEAD_FLAGS, *BRIDGE_HEAD_FLAGS, "-m", "-j", "-g"))  # every flag of one letter
_NAME_HINT = "labctl knows the matches and targets of iptables-extensions(8)"


@dataclass(frozen=True, slots=True)
class ExtensionOption:
    """One option: its flag, the types of its values, and whether a ! may be before it."""

    flag: str
    types: tuple[str, ...] = ()
    negatable: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """A match or target: its options, and where the kernel accepts it. Empty `tables`, `hooks` and `protocols` mean
    any."""

    name: str
    options: dict[str, ExtensionOption] = field(default_factory=dict)
    tables: tuple[TableName, ...] = ()
    hooks: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()  # of each of these groups one option has to be there; `*` is any
    exclusive: tuple[tuple[str, ...], ...] = ()  # of each of these groups only one can be there
    requires: tuple[tuple[str, str], ...] = ()  # an option, and another one that it needs
    known: bool = True  # False for one that is not in the lists above: its options are not known either


class InvalidRule(ValueError):
    """A rule that the tools or the kernel would not take. `word` is the word of the rule that is wrong, `hint` what to
    do."""

    def __init__(self, message: str, word: str, hint: str = "") -> None:
        super().__init__(message)
        self.word, self.hint = word, hint


@cache
def matches(family: str) -> Mapping[str, Extension]:
    """The matches of a family (`ip`, `ip6`, `bridge`) by name."""
    return _Extensions(BRIDGE_MATCHES if family == "bridge" else MATCHES, family)


@cache
def targets(family: str) -> Mapping[str, Extension]:
    """The targets of a family by name."""
    return _Extensions(BRIDGE_TARGETS if family == "bridge" else TARGETS, family)


def match(name: str, family: str) -> Extension:
    """The match of a name. Raises InvalidRule."""
    found = matches(family).get(_ALIASES.get(name, name))
    if found is None:
        other = matches("ip" if family == "ip6" else "ip6").get(name)
        if other is not None:
            raise InvalidRule(f"-m {name} is for {'IPv6' if family == 'ip' else 'IPv4'} only", name)
        raise InvalidRule(f"there is no match -m {name}", name, did_you_mean(name, matches(family)) or _NAME_HINT)
    return found


def match_name(name: str) -> str:
    """The name under which a match is printed: `icmpv6` is `icmp6`."""
    return _ALIASES.get(name, name)


def refusal_reason(word: str) -> str:
    """Why labctl writes no rule with this target or option, although the tools have it; "" for any other."""
    return REFUSED.get(word, "")


@cache
def bridge_match_options() -> Extension:
    """All options of ebtables' matches, as one extension."""
    options = {flag: one for extension in matches("bridge").values() for flag, one in extension.options.items()}
    return Extension("", options)


def full_flag(flag: str, extension: Extension) -> str:
    """The full name of an option of an extension: itself, or what an unambiguous beginning stands for, as in
    getopt_long (`--to` of DNAT).

    Raises InvalidRule for an option that the extension does not have, and for every word that a tool would
    take for one of its options.
    """
    if flag in extension.options:
        return flag
    if why := refusal_reason(flag):
        raise InvalidRule(f"{flag} is refused: {why}", flag)
    if main := _main_option(flag):
        what = flag if main == flag else f"{flag} (short for {main})"
        hint = f"write {flag[:2]} {flag[2:]}" if flag[:2] in _HEAD_FLAGS and len(flag) > 2 else "remove it"
        raise InvalidRule(f"{what} is an option of iptables itself, not part of a rule", flag, hint)
    if not extension.known:
        return flag
    complete = [known for known in extension.options if known.startswith(flag)] if len(flag) > 2 else []
    if len(complete) == 1:
        return complete[0]
    tool = extension.name in ("", "iptables")
    whose = extension.name or "ebtables" if tool else f"{'-j' if extension.name.isupper() else '-m'} {extension.name}"
    hint = did_you_mean(flag, extension.options or (all_flags() if tool else ())) or (
        f"it has {', '.join(extension.options)}" if extension.options else "" if tool else "it has no options"
    )
    raise InvalidRule(f"{whose} has no option {flag}", flag, hint if len(hint) < 160 else hint[:157] + "...")


def _main_option(flag: str) -> str:
    """The option of the tools themselves that a word is for getopt_long(3): also abbreviated, joined with its value, or
    several letters in one word. "" for other words."""
    if not flag.startswith("--"):
        return flag  # no extension has an option of one letter
    if flag == "--":
        return flag
    name = flag.partition("=")[0]
    return next((full for full in _main_flags() if full.startswith(name) or full == name), "")


@cache
def _main_flags() -> tuple[str, ...]:
    return tuple(f"--{name}" for name in MAIN_OPTIONS.split())


@cache
def all_flags() -> frozenset[str]:
    """Every option that a rule of any family can have after its head, by its full name: from the lists, because most
    rules need no more of all these extensions."""
    words = " ".join((MATCHES, TARGETS, BRIDGE_MATCHES, BRIDGE_TARGETS)).split()
    return frozenset(word.lstrip("!").partition("=")[0] for word in words if word.startswith(("--", "!--")))


@cache
def flags_like_main_options() -> frozenset[str]:
    """The options of extensions that begin like one of the tools' own (`--pol` of policy, and --policy): they are what
    they look like only beside their extension."""
    return all_flags() & {main[:end] for main in _main_flags() for end in range(len(main) + 1)}


@cache
def _harmless_flags() -> frozenset[str]:
    """The options of rules and of their heads that never look like one of the tools' own."""
    return (all_flags() | _HEADS) - flags_like_main_options()


def may_be_stray(rules: Iterable[Sequence[str]]) -> bool:
    """Whether a word of these rules may be one that `stray_word` returns. Fast, for all rules of a chain at once."""
    words = list(chain.from_iterable(rules))
    flags = [word for word in words if word[:1] == "-"]
    return not (_harmless_flags().issuperset(flags) and "".join(words).isprintable())


def stray_word(args: Sequence[str], family: str) -> str | None:
    """A word of a rule that must not reach the tools: one that they would take for one of their options, or one with
    a control character. None for a rule without any.

    `labctl.core.iptables.rule` makes no such rule; this looks at those that were made without it.
    """
    if not may_be_stray((args,)):
        return None
    known, previous = all_flags(), ""
    for word in args:
        if not word.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
            return word
        if word[:1] == "-" and previous not in FREE_TEXT_OPTIONS and word not in known and word not in _HEADS:
            return word
        if word in flags_like_main_options() and previous not in FREE_TEXT_OPTIONS:
            parts = split_parts(tuple(args))
            if not any(word in _options_of(part, family) for part in parts):
                return word
        previous = word
    return None


def _options_of(part: RulePart, family: str) -> Container[str]:
    if family == "bridge":
        target = targets(family).get(part.name)
        return bridge_match_options().options if not part.flag else target.options if target else ()
    found = (matches if part.flag == "-m" else targets)(family).get(part.name)
    return found.options if found is not None else ()


class _Extensions(Mapping[str, Extension]):
    """The extensions of a family by name, from their list. Each is read when it is asked for: a rule needs two of a
    hundred."""

    def __init__(self, text: str, family: str) -> None:
        self._lines: dict[str, list[list[str]]] = {}
        self._read: dict[str, Extension] = {}
        for line in text.split("\n"):
            name, *words = line.split() or [""]
            if name and ("family=" not in line or f"family={family}" in words):
                self._lines.setdefault(name, []).append(words)

    def __getitem__(self, name: str) -> Extension:
        if name not in self._read:
            self._read[name] = _parse(name, self._lines[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def _parse(name: str, lines: Iterable[Sequence[str]]) -> Extension:
    extension = Extension(name)
    for words in lines:
        settings = dict(word.split("=", 1) for word in words if not word.startswith(("-", "!")))
        for key, change in _SETTINGS.items():
            if key in settings:
                extension = replace(extension, **change(settings[key], extension))
        for word in words:
            if word.lstrip("!").startswith("--"):
                flag, _, types = word.lstrip("!").partition("=")
                extension.options[flag] = ExtensionOption(flag, _list(types), word.startswith("!"))
    return extension


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _groups(text: str, separator: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group.split(separator)) for group in text.split(","))


# the settings of a line of the list, and the fields of an extension that they make
_SETTINGS: dict[str, Callable[[str, Extension], dict[str, Any]]] = {
    "tables": lambda text, _: {"tables": _list(text)},
    "hooks": lambda text, _: {"hooks": _list(text)},
    "protocol": lambda text, _: {"protocols": _list(text)},
    "needs": lambda text, _: {"needs": _groups(text, "|")},
    "one": lambda text, before: {"exclusive": (*before.exclusive, *_groups(text, "|"))},
    "requires": lambda text, before: {"requires": (*before.requires, *_groups(text, ">"))},
}
