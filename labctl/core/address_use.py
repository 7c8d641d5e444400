"""How many addresses of its ranges a lab takes, for people who plan ranges. Pure, and fast to import."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network


@dataclass(frozen=True, slots=True)
class AddressUse:
    """The use of one range. `option` is the key of the scenario that sets it, `usable` the number of addresses that
    can be given to somebody, and `taken` says for what, with how many addresses each: `("nodes", 3)`."""

    option: str
    network: IPv4Network
    usable: int
    taken: tuple[tuple[str, int], ...]

    @property
    def left(self) -> int:
        """The free addresses."""
        return self.usable - sum(addresses for _, addresses in self.taken)


class OverlapRefusal(str):
    """What a model says of ranges that overlap. A scenario with `overlap: true` allows them."""

    __slots__ = ()
