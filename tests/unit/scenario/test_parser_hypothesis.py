"""Hostile input is only input: whatever a scenario file holds, the parser answers with a scenario or with
problems that have places, soon, and with nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.errors import LabError, ScenarioError, UsageError
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.yaml_reader import MAX_BYTES, decode_utf8
from tests.support.paths import GOLDEN

SCENARIOS = [catalog.find(name)[1] for name in catalog.names()]
ERRORS = [path.read_bytes() for path in sorted((GOLDEN / "errors").rglob("*.yaml"))]
SOON_S = 10.0  # of processor time: a slow machine needs a quarter of it, and what is not linear needs minutes
SCRAPS = (
    *("- ", ": ", "{", "}", "[", "]", "\n", "  ", "\t", "&a ", "*a", "!!", "|", ">", "'", '"', "#", "---\n", "? ", "%"),
    *(
        "-h",
        "../..",
        "null",
        "~",
        "count: ",
        "99999999999999999999",
        "-1",
        "0x7f",
        "1e9",
        "\0",
        "\u202e",
        "é",
        "\ud800",
    ),
    *("10.0.0.0/8", "::/0", "fe80::1%eth0", "a -> b", "<<: *a", "127.1", "!", "\x1b[0m", "via", "lladdr", "-j", "lo"),
)
FAST = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


def answer(text: str, **more: object) -> LabError | None:
    """Parse; fails the test if anything but a scenario or an error for people comes of it, or it takes long."""
    began, error = time.process_time(), None
    try:
        parse_and_compile(text, "t.yaml", **more)  # type: ignore[arg-type]
    except (ScenarioError, UsageError) as refused:
        error = refused
        for problem in refused.problems:
            assert problem.what
            assert problem.what.isprintable()
            assert problem.line > 0
            assert problem.column > 0
    assert time.process_time() - began < SOON_S
    return error


@FAST
@given(st.text(max_size=300))
def test_any_text(text: str) -> None:
    answer(text)
    answer("model: raw\nnamespaces: [a]\n" + text)


@FAST
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    try:
        text = decode_utf8(data, "t.yaml")
    except ScenarioError:
        return
    answer(text)


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """A good or a golden bad scenario with scraps put in, parts cut out, and lines moved."""
    texts = SCENARIOS + [data.decode("utf-8", "replace") for data in ERRORS if len(data) < 5000]
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        text = text[:start] + draw(st.sampled_from(("", *SCRAPS)) | st.text(max_size=4)) + text[end:]
    return text


@settings(FAST, max_examples=400)
@given(damaged())
def test_damaged_scenarios(text: str) -> None:
    answer(text)


LEAVES = (
    st.sampled_from([scrap.replace("\0", "0") for scrap in SCRAPS if scrap.isprintable()]) | st.integers() | st.none()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(("at", "a", "h1", "h1/eth0", "pods", "veth", "nat", "rules", "ping")), inner, max_size=3
        )
    ),
    max_leaves=12,
)
SECTIONS = st.sampled_from(
    (
        "namespaces",
        "links",
        "addresses",
        "routes",
        "rules",
        "neighbours",
        "fdb",
        "sysctls",
        "firewall",
        "checks",
        "nodes",
    )
)


@settings(FAST, max_examples=300)
@given(st.sampled_from(("raw", "kubenet", "docker-bridge")), st.dictionaries(SECTIONS, TREES, max_size=4))
def test_well_formed_nonsense(model: str, tree: dict[str, object]) -> None:
    import json

    answer(json.dumps({"model": model, "namespaces": ["h1"], **tree}, ensure_ascii=False))


WORDS = st.lists(
    st.sampled_from(
        *[["default", "via", "10.0.0.1", "dev", "lo", "table", "9", "metric", "src", "::1", "-6", "proxy", "lladdr",
           "from", "02:00:00:00:00:01", "pref", "lookup", "fwmark", "0x1/0xf", "scope", "link", "onlink", "blackhole",
           "/", "10.0.0.0/8", "-j", "-s", "-m", "--dport", "!", "-A", "'", '"', "-p", "tcp", "-o", "RETURN", "\\"]]
    ),
    max_size=8,
).map(" ".join)  # fmt: skip


@settings(FAST, max_examples=300)
@given(st.sampled_from(("routes", "rules", "neighbours", "fdb", "firewall", "firewall6", "ebtables")), WORDS)
def test_lines_of_words(section: str, line: str) -> None:
    import json

    lines: object = [line]
    if section.startswith(("fire", "ebt")):
        lines = {"filter": {"FORWARD": lines}}
    answer(json.dumps({"name": "x", "model": "raw", "namespaces": ["a"], section: {"a": lines}}))


@FAST
@given(st.text(max_size=40))
def test_any_set_and_any_name(word: str) -> None:
    for sets in ((word,), (f"nodes={word}",), (f"{word}=1",), (f"nodes.node1.{word}",)):
        answer(SCENARIOS[0], overrides=sets)
    answer(SCENARIOS[0], name=word)


NINE = ", ".join(["*{}"] * 9)
LAUGHS = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{NINE.replace('{}', a)}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)
HOSTILE = {
    "aliases that explode": LAUGHS,
    "aliases that explode as keys": "a: &a {b: 1}\n? *a\n: 1\n",
    "brackets without end": "[" * 100_000,
    "braces without end": "{a: " * 100_000,
    "dashes without end": "- " * 100_000,
    "question marks": "? " * 100_000,
    "tabs": "model:\traw\n\tnamespaces: [a]\n",
    "binary": "\x7fELF\x02\x01\x01\x00",
    "megabytes of keys": "".join(f"k{number}: v\n" for number in range(300_000)),
    "megabytes of one key": "k: v\n" * 500_000,
    "megabytes of text": "model: " + "x" * (MAX_BYTES - 100),
    "megabytes of comments": "# x\n" * 1_000_000,
    "too many megabytes": "x" * (MAX_BYTES + 1),
    "megabytes of names": "model: kubenet\nnodes: [" + "x, " * 200_000 + "x]\n",
    "a long name": f"model: kubenet\nnodes: [{'x' * 1_000_000}]\n",
    "many checks": "model: kubenet\nnodes: [n]\nchecks:\n" + "  - {ping: x -> y}\n" * 15_000,
    "a number of many digits": f"model: kubenet\nnodes: {{count: {'9' * 100_000}}}\n",
    "an anchor of a megabyte": f"a: &{'a' * 1_000_000} 1\n",
    "many anchors": "".join(f"k{n}: &a{n} x\n" for n in range(40_000)),
    "lone surrogates": "model: \ud800\n",
    "a tag": "model: !!python/object/apply:os.system [id]\n",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_input_is_an_error_and_soon(what: str) -> None:
    error = answer(HOSTILE[what])
    assert isinstance(error, ScenarioError)
    assert len(str(error)) < 100_000
    if what.startswith("aliases"):
        began = time.process_time()
        answer(HOSTILE[what])
        assert time.process_time() - began < 0.05
