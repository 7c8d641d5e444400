"""The verbs of labctl for one lab, as functions that run them in this process."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cached_property
from importlib import import_module

ROOM = 4  # entries for which the machine's neighbour table seems to have room, so that checks preset theirs
FAULTS = ("interface-down", "route-missing")  # the first that fits the lab


def import_all() -> None:
    """Import all of labctl, so that the children of this process do not have to."""
    import labctl

    for module in pkgutil.walk_packages(labctl.__path__, "labctl."):
        if not module.name.endswith("__main__"):
            import_module(module.name)


class LabVerbs:
    """The verbs for a lab of a built-in scenario; `lab` is its name. The lab runs when a verb is first called that has
    arguments."""

    def __init__(self, scenario: str, lab: str) -> None:
        self.scenario, self.lab = scenario, lab

    def call(self, verb: str) -> Callable[[], int]:
        """A function that runs a verb in this process and returns its exit code."""

        def run() -> int:
            from labctl.cli import main
            from labctl.core.neighbour_tables import NeighbourTable

            NeighbourTable.room = ROOM
            return main(self.words(verb))

        return run

    def words(self, verb: str) -> list[str]:
        """The command line of a verb; `repair` is an `up` of a running lab."""
        if verb in ("up", "repair"):
            return ["up", self.scenario, "--name", self.lab]
        if verb == "compare":
            return ["compare", self.scenario]
        if verb == "down":
            return ["down", self.lab]
        if verb == "list":
            return ["list"]
        return [verb, "-l", self.lab, *(self._arguments[verb] if verb in ("check", "trace", "break") else ())]

    @cached_property
    def _arguments(self) -> dict[str, list[str]]:
        """A check of all pairs if there is one, a trace that is answered, a fault."""
        from labctl.faults.catalogue import applicable
        from labctl.lab.cni_attach import with_plugin_results
        from labctl.lab.records import load_compiled_lab

        lab = with_plugin_results(load_compiled_lab(self.lab))
        pings = [check for check in lab.checks if check.probe == "ping" and check.expect == "reply" and not check.size]
        meshes = [check for check in lab.checks if check.probe == "mesh"]
        kinds = {kind.name: faults for kind, faults in applicable(lab)}
        fault = next(kinds[name][0] for name in FAULTS if kinds.get(name))
        return {
            "check": ["-k", (meshes or pings)[0].say],
            "trace": [pings[0].source, pings[0].target],
            "break": [fault.kind, fault.on],
        }
