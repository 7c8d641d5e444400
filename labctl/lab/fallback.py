"""Whether this kernel has all features that a lab needs, checked before anything is built; and the substitutes.

A lab that needs a missing kernel feature is refused. Only with `--approximate`, or with `approximate: true` in the
scenario, is the model's substitute built instead, and only for features that are really missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from labctl.core.features import (
    PERMISSION_DENIED,
    UNKNOWN_TO_NFT,
    build_option,
    kernel_module,
    remedy,
    required_features,
)
from labctl.core.fidelity import Fidelity, substitutes
from labctl.core.resources import Resource
from labctl.core.scenario_types import Lab
from labctl.errors import MissingError
from labctl.scenario.definition import Definition, compile_definition, with_substitutes

# from the needed features to the missing ones, with the kernel's error texts
FindMissing = Callable[[Lab, Mapping[str, Resource]], Mapping[str, str]]


def use_available_features(
    definition: Definition, lacking: FindMissing, *, approximate: bool = False
) -> tuple[Definition, Lab]:
    """The definition that this kernel can build, and its lab: unchanged, or with substitutes where those are wanted.

    Raises MissingError for a feature that the kernel lacks and that has no (wanted) substitute.
    """
    lab = compile_definition(definition)
    wanted = required_features(lab.plan)
    missing = lacking(lab, wanted) if wanted else {}
    if missing and (approximate if lab.use_substitutes is None else lab.use_substitutes):
        definition = with_substitutes(definition, {*lab.substitute_features, *missing} & set(substitutes(lab.parts)))
        lab = compile_definition(definition)
        wanted = required_features(lab.plan)
        missing = lacking(lab, wanted) if wanted else {}
    if missing:
        raise missing_feature_error(lab, wanted, missing)
    return definition, lab


def missing_feature_error(lab: Lab, wanted: Mapping[str, Resource], missing: Mapping[str, str]) -> MissingError:
    """The error for a lab that this kernel cannot build: each missing feature, what needs it, and what to do."""
    parts = {part.feature: part for part in lab.parts if part.grade == "needs"}
    lacks = {feature: f"{feature}, needed for {_purpose(parts.get(feature), wanted[feature])}" for feature in missing}
    of_nft = [feature for feature, reason in missing.items() if reason == UNKNOWN_TO_NFT]
    of_kernel = [feature for feature, reason in missing.items() if reason not in (PERMISSION_DENIED, UNKNOWN_TO_NFT)]
    modules = [kernel_module(feature) for feature in of_kernel if build_option(feature) is None]
    builds = [option for feature in of_kernel if (option := build_option(feature)) is not None]
    subject = "this kernel" if of_kernel else "this user"
    hints = [f"modprobe {' '.join(modules)}, if this kernel has it as a module (see labctl doctor)"] if modules else []
    hints += [f"a kernel built with {' and '.join(builds)} has it"] if builds else []
    hints += ["a later version of nftables knows it"] if of_nft else []
    hint = "; ".join(hints)
    if not hints:
        hint = " and ".join({remedy(feature, reason) for feature, reason in missing.items()})
    instead = ", ".join(parts[feature].substitute for feature in missing if feature in substitutes(lab.parts))
    if instead and lab.use_substitutes is False:
        hint += f"; the scenario forbids the substitute (approximate: false): {instead}"
    elif instead:
        hint += f"; or use --approximate to build a substitute: {instead}"
    others = [text for feature, text in lacks.items() if feature not in of_nft]
    said = [f"{subject} lacks {'; '.join(others)}"] if others else []
    said += [f"this version of nft does not know {'; '.join(lacks[one] for one in of_nft)}"] if of_nft else []
    return MissingError(f"lab {lab.name} cannot be built: {'; '.join(said)}", hint)


def _purpose(part: Fidelity | None, item: Resource) -> str:
    if part is not None:
        return part.aspect
    from labctl.render.resources import resource_line

    return f"{resource_line(item).partition(':')[0]} in {item.ns}"
