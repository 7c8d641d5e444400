"""Golden plans: what each scenario comes to, in words. A change here is a change of what is built.

`pytest tests/unit/models/test_plans.py --update-golden` renews them; read the difference then.
"""

from __future__ import annotations

import pytest

from labctl.render.resources import plan_text
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from tests.support import kernels
from tests.support.golden import Golden
from tests.support.paths import GOLDEN

PLANS = GOLDEN / "plans"
VARIANTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    **{name: (name, (), ()) for name in catalog.names()},
    **{
        f"{name}-approximate": (name, (), tuple(features))
        for name, features in kernels.substitutes_by_scenario().items()
    },
    "kubenet-host": ("kubenet", ("routing=host",), ()),
    "eks-vpc-cni-1.23": ("eks-vpc-cni", ("release=1.23",), ()),
    "flannel-nftables": ("flannel", ("nftables=true",), ()),
    "docker-bridge-20.10": ("docker-bridge", ("release=20.10", "hosts.host2.containers=[d1]"), ()),
}


def text(scenario: str, sets: tuple[str, ...], approximate: tuple[str, ...]) -> str:
    file, source = catalog.find(scenario)
    return plan_text(parse_and_compile(source, file, overrides=sets, substitute_features=approximate or None)[1])


@pytest.mark.parametrize("name", VARIANTS)
def test_plan_is_as_written(name: str, golden: Golden) -> None:
    golden(f"plans/{name}.txt").check(text(*VARIANTS[name]))


def test_every_golden_plan_has_a_scenario() -> None:
    assert {file.stem for file in PLANS.glob("*.txt")} == set(VARIANTS)
