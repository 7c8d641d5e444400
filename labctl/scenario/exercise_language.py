"""The section `exercise` of the scenario language: its keys, with the types of their values and their help texts."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from labctl.core.comparison_rows import ROW_KEYS
from labctl.core.exercise_types import MAX_LEVEL
from labctl.scenario import port_values, values
from labctl.scenario.check_language import CONNECT, PING, PING_SIZE
from labctl.scenario.document import Map, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, Key, ListOf, Located, MapOf, Scalar, Section

MAX_TEXT = 6000  # characters of a text with paragraphs
MAX_POINTS = 100
MAX_COMMAND = 2000


def _paragraphs(text: str) -> str:
    """Paragraphs as lines: a blank line between two of them; a line that begins with two spaces stays a line,
    and one that begins with `- ` is an entry of a list."""
    if len(text) > MAX_TEXT:
        raise InvalidValue(f"the text has {len(text)} characters", f"at most {MAX_TEXT} are allowed")
    if any(not char.isprintable() and char != "\n" for char in text):
        raise InvalidValue("control characters are not allowed", "indent with spaces")
    lines: list[str] = []
    for line in text.strip("\n").split("\n"):
        is_new = line.startswith(("  ", "- ")) or not line.strip()
        if lines and lines[-1] and not lines[-1].startswith("  ") and not is_new:
            lines[-1] += _gap(lines[-1], line.strip()) + line.strip()
        elif line.strip() or (lines and lines[-1]):
            lines.append(line.rstrip())
    return "\n".join(lines).rstrip("\n")


def _gap(before: str, after: str) -> str:
    """What stands between two lines of a paragraph: a blank, but not between two characters of Japanese."""
    both_wide = all(unicodedata.east_asian_width(char) in "WF" for char in (before[-1], after[0]))
    return "" if both_wide else " "


PARAGRAPHS = Scalar("a text of one or more paragraphs", _paragraphs, {"type": "string"})


def _object_name(text: str) -> str:
    text = " ".join(text.split())
    machine, _, rest = text.partition("/")
    values.LABEL.convert(machine)
    if "/" in text and not rest:
        raise InvalidValue(f"{quote_text(text)} names no object of {machine}", "such as c1/eth0 or c1/default")
    return text


OBJECT = Scalar("a machine, or an object such as c1/eth0 or c1/default", _object_name, {"type": "string"})


def _answer(text: str) -> str:
    text = " ".join(text.split())
    if not text or len(text) > 400 or not text.isprintable():
        raise InvalidValue("an answer has from 1 to 400 characters on one line")
    return text


ANSWER = Scalar("an answer", _answer, {"type": ["string", "number"]})


def _command(text: str) -> str:
    text = text.strip()
    if not text or len(text) > MAX_COMMAND:
        raise InvalidValue(f"a command has from 1 to {MAX_COMMAND} characters")
    return text


COMMAND = Scalar("a command", _command, {"type": "string"})
LANGUAGE = Scalar(
    "a language such as ja",
    lambda text: text if re.fullmatch("[a-z]{2,3}", text) else _refuse_language(text),
    {"type": "string", "pattern": "^[a-z]{2,3}$"},
)


def _refuse_language(text: str) -> str:
    raise InvalidValue(f"{quote_text(text)} is not the code of a language", "two or three letters, such as ja")


def read_machine_command(node: TreeNode, label: str, reader: Reader) -> Located | None:
    """A mapping `MACHINE: COMMAND` as the pair of both."""
    if not isinstance(node, Map) or len(node.items) != 1:
        reader.add_problem(node, f"{label}: expected MACHINE: COMMAND", "such as node1: ip route add default via ...")
        return None
    key, value = node.items[0]
    machine = values.LABEL.read(Text(key.position, key.value, False), label, reader)
    command = COMMAND.read(value, label, reader)
    return None if machine is None or command is None else Located((machine, command), key.position, key.position)


@dataclass(frozen=True, slots=True)
class SolveField:
    """The solution of a task: an answer, or a list of commands, each with its machine."""

    what = "an answer, or a list of MACHINE: COMMAND"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if not isinstance(node, Seq):
            return ANSWER.read(node, label, reader)
        steps = [read_machine_command(item, label, reader) for item in node.items]
        return tuple(step for step in steps if step is not None)

    def schema(self) -> Json:
        one = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": COMMAND.schema()}
        return {"anyOf": [ANSWER.schema(), {"type": "array", "items": one}]}


@dataclass(frozen=True, slots=True)
class HintField:
    """One hint: a sentence, or a section with its cost."""

    section: Section

    @property
    def what(self) -> str:
        return f"a hint, or {self.section.what}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Map):
            return self.section.read(node, label, reader)
        say = values.SENTENCE.read(node, label, reader)
        return None if say is None else {"say": Located(say, node.position, node.position)}

    def schema(self) -> Json:
        return {"anyOf": [values.SENTENCE.schema(), self.section.schema()]}


_PROBE_KEYS = (
    Key("ping", PING, "the question is about an ICMP echo request: SOURCE -> TARGET"),
    Key("tcp", CONNECT, "the question is about a TCP connection: SOURCE -> TARGET:PORT"),
    Key("udp", CONNECT, "the question is about a UDP datagram: SOURCE -> TARGET:PORT"),
    Key(
        "listen",
        port_values.LISTENER,
        "whether labctl answers itself (tcp, udp); or the machine and port where it does, behind a translation",
        "true",
    ),
    Key("size", PING_SIZE, "payload bytes of a ping that is never fragmented", "56, and fragments allowed"),
)
PROBES = ("ping", "tcp", "udp")
ASK = values.choice("verdict", "src", "dst", "ttl", "path", "last")
PREDICT = Section(
    "predict",
    (
        Key(
            "ask",
            ASK,
            "what is asked: the `verdict` (answered, refused, unanswered, lost); the source (`src`), destination"
            " (`dst`) or `ttl` of the request at a point; the machines on its way (`path`); the `last` machine that it"
            " reaches",
            required=True,
        ),
        Key("at", values.POINT, "the point for src, dst and ttl"),
        *_PROBE_KEYS,
    ),
    exactly_one=PROBES,
)
LOCATE = Section("locate", _PROBE_KEYS, exactly_one=PROBES)
COMPARE = Section(
    "compare",
    (
        Key("scenarios", ListOf(values.LABEL, min_items=2), "built-in scenarios that are measured", required=True),
        Key("row", values.choice(*ROW_KEYS), "the row of the comparison, as `compare --json` names it", required=True),
        Key("is", values.SENTENCE, "the text of the row; those for which it is so are the answer", required=True),
    ),
)
TASK = Section(
    "task",
    (
        Key("say", values.SENTENCE, "what the learner has to do, or is asked", required=True),
        Key("points", values.integer(1, MAX_POINTS), "what it is worth", "1"),
        Key(
            "build",
            ListOf(OBJECT, allow_single=True, min_items=1),
            "the learner makes these objects, which the lab lacks at the start: a machine (`c1`, with all its devices"
            " and routes), a device (`c1/eth0`), an address (`c1/eth0/10.0.0.2/24`), a route (`c1/default`,"
            " `c1/10.1.0.0/24`), a chain (`host1/nat/POSTROUTING`), a sysctl (`host1/net.ipv4.ip_forward`)",
        ),
        Key(
            "fix",
            values.choice("lab", "checks"),
            "the learner repairs what `break` has broken, until all `checks` pass. With `lab`, nothing else may differ"
            " from the scenario",
        ),
        Key("predict", PREDICT, "the learner says what a packet will show, before it is sent"),
        Key("locate", LOCATE, "the learner names the machine and the object where a packet ends, as `trace` does"),
        Key("compare", COMPARE, "the learner names the scenarios for which an answer of `compare` is true"),
        Key("solve", SolveField(), "the solution: the answer, or the commands", required=True),
    ),
    exactly_one=("build", "fix", "predict", "locate", "compare"),
)
HINT = Section(
    "hint",
    (
        Key("say", values.SENTENCE, "the hint", required=True),
        Key("cost", values.integer(0, MAX_POINTS), "the points that it costs", "1"),
    ),
)
TRANSLATION = Section(
    "texts",
    (
        Key("title", values.SENTENCE, "the title"),
        Key("text", PARAGRAPHS, "the text"),
        Key("explain", PARAGRAPHS, "the explanation"),
        Key("tasks", ListOf(values.SENTENCE), "the sentences of all tasks, in their order"),
        Key("hints", ListOf(values.SENTENCE), "all hints, in their order"),
    ),
)
EXERCISE = Section(
    "exercise",
    (
        Key("title", values.SENTENCE, "its title, which must not give the answer away", required=True),
        Key("level", values.integer(1, MAX_LEVEL), "how hard it is: 1 is easy", "1"),
        Key("topic", values.SENTENCE, "the lesson that it belongs to"),
        Key("text", PARAGRAPHS, "what the learner reads at the start", required=True),
        Key("tasks", ListOf(TASK, min_items=1), "the tasks, done in this order", required=True),
        Key("hints", ListOf(HintField(HINT)), "hints, shown one after the other"),
        Key("explain", PARAGRAPHS, "what the learner reads at the end"),
        Key("texts", MapOf(LANGUAGE, TRANSLATION), "the texts in other languages, such as `{ja: {title: ...}}`"),
    ),
)
