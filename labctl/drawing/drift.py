"""What of a lab differs in the kernel, by the objects that a drawing shows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from labctl.core.diff import Change
from labctl.core.resources import Address, Attachment, Fdb, Link, Neighbour, Netns, Plan, Resource, Route, Sysctl
from labctl.drawing.model import State
from labctl.render.resources import change_lines

DRAWN = (Netns, Link, Address, Route)  # what a drawing shows as a box, a device or a line


class Drift:
    """The changes of `labctl status`, for each object: its state, and the sentences on it."""

    def __init__(self, changes: Iterable[Change], plan: Plan) -> None:
        self.changes = tuple(changes)
        self.by_key = {one.subject.key: one for one in self.changes if one.want is not None}
        planned = {item.key for item in plan if isinstance(item, (Netns, Link))}
        found = (one.have for one in self.changes if one.want is None and one.have is not None)
        self.extra = tuple(one for one in found if isinstance(one, DRAWN) and one.key not in planned)
        self._extra_set = frozenset(self.extra)
        self.machines = {one.subject.ns for one in self.changes}

    @property
    def number(self) -> int:
        """The number of differences, as `labctl status` counts them."""
        return sum(len(change_lines(one)) for one in self.changes)

    def state(self, item: Resource) -> State:
        """The state of an object of the plan, or of an additional one."""
        if item in self._extra_set:
            return "extra"
        change = self.by_key.get(item.key)
        return change.kind if change is not None else ""

    def sentences(self, item: Resource) -> tuple[str, ...]:
        """What of a changed object is not as planned: `mtu is 1400, should be 1500`."""
        change = self.by_key.get(item.key)
        if change is None or change.kind != "changed":
            return ()
        return tuple(line.partition(": ")[2] for line in change_lines(change, "is"))

    def found(self, link: Link) -> Link:
        """A device as the kernel has it; one that is missing as it is planned."""
        change = self.by_key.get(link.key)
        return change.have if change is not None and isinstance(change.have, Link) else link

    def machine_state(self, name: str) -> State:
        """Whether a machine has no namespace, or is one that the plan does not have."""
        return self.state(Netns(name))

    def other_lines(self, name: str, devices: Collection[str]) -> Iterator[str]:
        """The differences on a machine that are no device, address or route of its drawing, in the words of
        `labctl status`: those about single devices last. What is missing together with its device is left out."""
        if self.machine_state(name):
            return
        own = [one for one in self.changes if one.subject.ns == name and not self._is_drawn(one.subject, devices)]
        own = [one for one in own if not self._is_missing_with_its_device(one)]
        for change in sorted(own, key=lambda one: _device(one.subject) is not None):
            yield from change_lines(change, "is")

    def _is_drawn(self, item: Resource, devices: Collection[str]) -> bool:
        if isinstance(item, (Link, Address, Attachment)):
            return item.at.dev in devices
        return isinstance(item, (Netns, Route))

    def _is_missing_with_its_device(self, change: Change) -> bool:
        device = _device(change.subject)
        link = self.by_key.get(("link", change.subject.ns, device))
        return change.kind == "missing" and link is not None and link.kind == "missing"


def _device(item: Resource) -> str | None:
    """The device that an object belongs to."""
    if isinstance(item, Sysctl):
        parts = item.name.split(".")
        is_single = len(parts) == 5 and parts[2] in ("conf", "neigh") and parts[3] not in ("all", "default")
        return parts[3].replace("/", ".") if is_single else None
    return item.at.dev if isinstance(item, (Address, Neighbour, Fdb, Link)) else None
