"""`--set` with values of any shape: an error with a position, in a time that grows with the length of the text only."""

from __future__ import annotations

import time
from typing import Any

import pytest

import labctl
from labctl.errors import ScenarioError, UsageError
from labctl.scenario.definition import define

ALIASES = "x=[&a [x,x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], " + ", ".join(
    f"&{name} [{','.join([f'*{last}'] * 9)}]" for last, name in zip("bcdefg", "cdefgh", strict=True)
)
STRANGE = {
    "1100 dots": "a" + ".a" * 1100 + "=1", "3000 dots": "a" + ".a" * 3000 + "=1", "only dots": "." * 100_000 + "=1",
    "65 steps": ".".join(["a"] * 65) + "=1", "no value": "=", "nothing": "", "no name": "nodes..pods=1",
    "brackets": "nodes=" + "[" * 100_000, "closed brackets": "nodes=" + "[" * 3000 + "]" * 3000,
    "JSON": "nodes=" + '{"a":' * 3000 + "1" + "}" * 3000, "dashes": "nodes=" + "- " * 3000, "a bomb": ALIASES + "]",
    "itself": "x=&a [*a]", "digits": "mtu=" + "9" * 100_000, "an entry": "nodes." + "9" * 5000 + "=1",
    "prefix": "pod_cidr=10.0.0.0/" + "9" * 5000, "duration": "checks=[{ping: a -> c, within: " + "9" * 5000 + "}]",
    "a name": "checks=[{ping: " + "a" * 100_000 + "}]", "NUL": "nodes=\0", "surrogate": "nodes=\udcff",
    "long list": "nodes=[" + "a," * 200_000 + "]", "a tag": "nodes=!!python/object:os.system x",
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_value_of_any_shape_is_an_error_with_a_position(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ScenarioError) as caught:
        define("kubenet", overrides=(STRANGE[name],))
    assert time.process_time() - started < 2
    assert all(one.file.startswith("--set ") and len(str(one)) < 600 for one in caught.value.problems)


def test_too_many_steps_are_counted() -> None:
    with pytest.raises(ScenarioError, match="a path of 1101 steps\n    hint: a key of a scenario has at most 64"):
        define("kubenet", overrides=(STRANGE["1100 dots"],))


def test_the_longest_path_of_a_wide_mapping_is_found_at_once() -> None:
    wide = "{" + ",".join(f"k{number}: 1" for number in range(30_000)) + "}"
    started = time.process_time()
    with pytest.raises(ScenarioError):
        define("kubenet", overrides=(f"nodes={wide}", "nodes." + ".".join(["k"] * 60) + "=1"))
    assert time.process_time() - started < 8


def circle() -> dict[str, Any]:
    made: dict[str, Any] = {}
    made["a"] = made
    return made


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize("value", [circle(), deep(), {(1, 2): 3}, 10**5000], ids=["circle", "deep", "key", "number"])
def test_a_value_of_the_interface_that_is_no_yaml(value: Any) -> None:
    with pytest.raises(UsageError, match="cannot be written as YAML"):
        labctl.load("kubenet", set={"nodes": value})
