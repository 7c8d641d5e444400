"""Parameter types: scenarios, labs, nodes and points, each with its shell completion. They only list directories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab

    StringParam = click.ParamType[str]
else:
    StringParam = click.ParamType


class ScenarioParam(StringParam):
    """A built-in scenario's name, or a file."""

    name = "scenario"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.scenario.catalog import ALIASES, names

        known = (*names(), *ALIASES) if incomplete else names()
        found = [CompletionItem(name) for name in known if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class FileParam(StringParam):
    """A file that is read."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]


class NumberParam(click.IntRange):
    """A whole number between two bounds, with an error that names them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            limits = f"of at least {self.min}" if self.max is None else f"from {self.min} to {self.max}"
            self.fail(f"{value!r} is not a whole number {limits}", param, ctx)


class LabNameParam(StringParam):
    """A lab's name. An invalid name is refused, so that no other text becomes part of a path."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            raise click.UsageError("a lab's name cannot be empty", ctx)
        if value.startswith("-") and isinstance(param, click.Option):  # `-l --json`: an option, not a name
            raise click.UsageError(f"option '{param.opts[0]}' requires an argument", ctx)
        if not (value.isascii() and all(part.isalnum() for part in value.split("-")) and len(value) <= 63):
            raise click.UsageError(f"not a valid name of a lab: {value!r}; use letters, digits and single dashes", ctx)
        return value


class LabParam(LabNameParam):
    """The name of a running lab."""

    name = "lab"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.kernel.host import paths

        given = ctx.params.get(param.name or "") or ()
        return [CompletionItem(lab) for lab in paths.labs() if lab.startswith(incomplete) and lab not in given]


class LanguageParam(StringParam):
    """The code of a language that labctl has."""

    name = "language"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from labctl.translation.language import is_known, languages

        if not is_known(value):
            raise UsageError(f"there is no language {value!r}", f"the languages are {', '.join(languages())}")
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.translation.language import languages

        return [CompletionItem(code) for code in languages() if code.startswith(incomplete)]


class NodeParam(StringParam):
    """A node of the selected lab."""

    name = "node"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.kernel.host import paths

        labs = paths.labs()
        wanted = getattr(ctx.find_root().obj, "lab", None)
        if wanted is None and len(labs) == 1:
            wanted = next(iter(labs))
        return [CompletionItem(node) for node in labs.get(wanted or "", ()) if node.startswith(incomplete)]


class PointParam(NodeParam):
    """A device of the selected lab, NODE/DEVICE, or a node, which means all of its devices."""

    name = "point"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.core.resources import Link
        from labctl.errors import LabError
        from labctl.lab import records

        if "/" not in incomplete:
            return super().shell_complete(ctx, param, incomplete)
        try:  # every user can read the definition, but not the kernel's devices
            plan = records.load_compiled_lab(records.resolve_lab_name(getattr(ctx.find_root().obj, "lab", None))).plan
        except LabError:
            return []
        points = (str(item.at) for item in plan if isinstance(item, Link))
        return [CompletionItem(point) for point in points if point.startswith(incomplete)]


class FaultParam(StringParam):
    """The name of a fault of the catalogue."""

    name = "fault"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.faults.catalogue import kinds

        return [
            CompletionItem(name, help=kind.summary) for name, kind in kinds().items() if name.startswith(incomplete)
        ]


class FaultObjectParam(StringParam):
    """An object of the selected lab that can have the given fault."""

    name = "object"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.errors import LabError
        from labctl.faults.catalogue import faults_of, find_kind
        from labctl.lab import records
        from labctl.lab.cni_attach import with_plugin_results

        try:
            lab = records.load_compiled_lab(records.resolve_lab_name(getattr(ctx.find_root().obj, "lab", None)))
            faults = faults_of(with_plugin_results(lab), find_kind(ctx.params.get("fault") or ""))
        except LabError:
            return []
        return [CompletionItem(fault.on) for fault in faults if fault.on.startswith(incomplete)]


class ExerciseParam(StringParam):
    """A built-in exercise's name, or a file; after --random, a scenario."""

    name = "exercise"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        if ctx.params.get("at_random"):
            return SCENARIO.shell_complete(ctx, param, incomplete)
        from labctl.scenario.catalog import exercise_files

        found = [CompletionItem(name) for name in exercise_files() if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class PolicyEndParam(StringParam):
    """A pod or a Service of the selected lab, another machine, or an address."""

    name = "end"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from labctl.errors import LabError
        from labctl.lab import records

        try:
            lab = records.load_compiled_lab(records.resolve_lab_name(getattr(ctx.find_root().obj, "lab", None)))
        except LabError:
            return []
        return [CompletionItem(name) for name in self.names(lab) if name.startswith(incomplete)]

    def names(self, lab: Lab) -> tuple[str, ...]:
        """The words that can be completed."""
        if lab.kubernetes is None:
            return ()
        from labctl.kubernetes.policies.policy_question import names

        return names(lab, lab.kubernetes)


class PolicyFilterParam(PolicyEndParam):
    """A namespace or a pod of the selected lab, or a label."""

    name = "who"

    def names(self, lab: Lab) -> tuple[str, ...]:
        if lab.kubernetes is None:
            return ()
        from labctl.kubernetes.policies.policy_matrix import filters

        return filters(lab.kubernetes)


class TargetParam(NodeParam):
    """A node of the selected lab, one of its points, or an address."""

    name = "target"


FILE, EXERCISE, LANGUAGE = FileParam(), ExerciseParam(), LanguageParam()
SCENARIO, NAME, LAB = ScenarioParam(), LabNameParam(), LabParam()
NODE, POINT, TARGET = NodeParam(), PointParam(), TargetParam()
FAULT, FAULT_OBJECT = FaultParam(), FaultObjectParam()
POLICY_END, POLICY_FILTER = PolicyEndParam(), PolicyFilterParam()
