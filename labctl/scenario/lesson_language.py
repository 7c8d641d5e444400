"""The section `lesson` of the scenario language: its keys, with the types of their values and their help texts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from labctl.core.names import did_you_mean
from labctl.scenario import values
from labctl.scenario.document import Map, Reader, TreeNode, quote_text
from labctl.scenario.exercise_language import ANSWER, COMMAND, LANGUAGE, PARAGRAPHS, PREDICT, read_machine_command
from labctl.scenario.field_types import InvalidValue, Json, Key, ListOf, MapOf, Scalar, Section

MAX_SHOWN = 200  # characters of a text that an output must have
# the verbs that a step can run: those that ask a running lab, or break and repair it
VERBS = (
    "break", "check", "compare", "exec", "explain", "fix", "graph", "list", "plan", "policy", "show", "status", "trace",
)  # fmt: skip
STEP_KINDS = ("run", "labctl", "predict", "claim")


def _verb(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise InvalidValue(f"{quote_text(text)} cannot be split into words: {error}") from None
    if not words or not text.isprintable():
        raise InvalidValue("a command is a verb of labctl with its arguments", "such as trace a c")
    if words[0] == "labctl" or words[0] not in VERBS:
        what = f"{quote_text(words[0])} is not a verb that a lesson can use"
        hint = "write the command without labctl" if words[0] == "labctl" else did_you_mean(words[0], VERBS)
        raise InvalidValue(what, hint or f"the verbs are {', '.join(VERBS)}")
    if any(word in ("-l", "--lab") or word.startswith("--lab=") for word in words[: _end_of_options(words)]):
        raise InvalidValue("the lab of the lesson is always named", "remove the option -l")
    return words


def _end_of_options(words: tuple[str, ...]) -> int:
    return words.index("--") if "--" in words else len(words)


VERB = Scalar("a verb of labctl with its arguments", _verb, {"type": "string"})


def _shown(text: str) -> str:
    text = " ".join(text.split())
    if not text or len(text) > MAX_SHOWN or not text.isprintable():
        raise InvalidValue(f"a text of an output has from 1 to {MAX_SHOWN} characters")
    return text


SHOWN = Scalar("a text of the output", _shown, {"type": ["string", "number", "boolean"]})


@dataclass(frozen=True, slots=True)
class RunField:
    """A command with its machine."""

    what = "MACHINE: COMMAND"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        return read_machine_command(node, label, reader)

    def schema(self) -> Json:
        return {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": COMMAND.schema(),
        }


STEP = Section(
    "step",
    (
        Key("say", PARAGRAPHS, "what the learner reads first; the question of `predict`"),
        Key("run", RunField(), "a command for a shell in a machine, `c1: ip route`; `$LAB` in it is the lab's name"),
        Key(
            "labctl",
            VERB,
            "a verb of labctl on this lab, `trace a c`: one of " + ", ".join(f"`{verb}`" for verb in VERBS),
        ),
        Key("predict", PREDICT, "a question about a packet, which the learner answers before it is sent"),
        Key("claim", values.SENTENCE, "something that is often said, true or not, which a check of this lab settles"),
        Key("exits", values.integer(0, 255), "the exit code of the command (`run`, `labctl`)", "0"),
        Key(
            "shows",
            ListOf(SHOWN, allow_single=True, min_items=1),
            "texts that the output of the command has (`run`, `labctl`); a text that is the same in all languages, such"
            " as an address. Any white space counts as one blank",
        ),
        Key("solve", ANSWER, "the right answer to `predict`; a test compares it with what is measured"),
        Key("holds", values.BOOLEAN, "whether the `claim` is true"),
        Key("check", values.SENTENCE, "the `say` of the check that is the evidence for the `claim` or against it"),
        Key("then", PARAGRAPHS, "what the learner reads after the output"),
    ),
)
_APPLIES_TO = {
    "exits": ("run", "labctl"), "shows": ("run", "labctl"), "solve": ("predict",), "holds": ("claim",),
    "check": ("claim",),
}  # fmt: skip
_NEEDS = {"": ("say",), "predict": ("say", "solve"), "claim": ("holds", "check")}
_HINTS = {"solve": "solve: is the right answer", "holds": "holds: true or holds: false"}


@dataclass(frozen=True, slots=True)
class StepField:
    """A step: a section. What it does decides which other keys it may have."""

    section: Section

    @property
    def what(self) -> str:
        return self.section.what

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        found = self.section.read(node, label, reader)
        if isinstance(node, Map):
            self._check_keys(node, reader)
        return found

    def _check_keys(self, node: Map, reader: Reader) -> None:
        written = {key.value: key for key, _ in node.items}
        kinds = [name for name in written if name in STEP_KINDS]
        if len(kinds) > 1:
            what = f"step: {kinds[0]!r} and {kinds[1]!r} cannot be used together"
            reader.add_problem(written[kinds[1]], what, "write a step for each")
            return
        kind = kinds[0] if kinds else ""
        for name in written:
            if kind not in _APPLIES_TO.get(name, (kind,)):
                reader.add_problem(written[name], f"step: {name!r} is for {' and '.join(_APPLIES_TO[name])}")
        for name in _NEEDS.get(kind, ()):
            if name not in written:
                hints = {
                    **_HINTS,
                    "say": "say: is the question" if kind else f"or one of {', '.join(STEP_KINDS)}",
                    "check": "check: is the say: of a check in this file",
                }
                reader.add_problem(written.get(kind, node), f"step: {name!r} is missing", hints[name])

    def schema(self) -> Json:
        rules: list[Json] = [{"not": {"required": list(two)}} for two in combinations(STEP_KINDS, 2)]
        for kind, names in _NEEDS.items():
            if kind:
                rules.append({"if": {"required": [kind]}, "then": {"required": list(names)}})
        rules.append({"anyOf": [{"required": [name]} for name in ("say", *STEP_KINDS)]})
        for name, owners in _APPLIES_TO.items():
            rules.append({"if": {"required": [name]}, "then": {"anyOf": [{"required": [one]} for one in owners]}})
        return {**self.section.schema(), "allOf": rules}


STEP_TEXTS = Section(
    "texts of a step",
    (
        Key("say", PARAGRAPHS, "the text before"),
        Key("then", PARAGRAPHS, "the text after"),
        Key("claim", values.SENTENCE, "the claim"),
    ),
)
LESSON_TEXTS = Section(
    "texts",
    (
        Key("title", values.SENTENCE, "the title", required=True),
        Key("topic", values.SENTENCE, "the topic"),
        Key("text", PARAGRAPHS, "the introduction", required=True),
        Key("steps", ListOf(STEP_TEXTS), "one entry for each step, with the keys that have text there", required=True),
    ),
)
LESSON = Section(
    "lesson",
    (
        Key("title", values.SENTENCE, "its title", required=True),
        Key("topic", values.SENTENCE, "what it is about, in a few words"),
        Key("text", PARAGRAPHS, "the introduction: the one thing that the lesson says", required=True),
        Key(
            "steps",
            ListOf(StepField(STEP), min_items=1),
            "the steps, in this order; a step without run, labctl, predict and claim only says something",
            required=True,
        ),
        Key("exercise", values.LABEL, "the built-in exercise to do at the end"),
        Key("texts", MapOf(LANGUAGE, LESSON_TEXTS), "the texts in other languages, such as `{ja: {title: ...}}`"),
    ),
)
