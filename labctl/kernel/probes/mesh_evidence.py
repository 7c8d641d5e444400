"""What the sockets of a mesh have to receive, what they did receive, and what follows for each pair. No I/O.

Of each pair that is asked, two packets are expected: the request at the target's socket, with an address of the source
as its sender, and the reply at the source's socket. What is expected is in a set for each socket, and what arrives is
taken out of it: a pair that is proven leaves nothing. Threads may use one object at the same time, because each step
on a set is one operation of the interpreter.

A packet may come late, while other pairs are asked: a neighbour that does not answer at once holds it back in the
kernel. Such a packet does not count. So a pair with a reply, but no request at its target, is asked once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from labctl.kernel.probes.echo_batch import ECHO_REPLY, ECHO_REQUEST, Echo

REQUESTS = frozenset(ECHO_REQUEST.values())

Cell: TypeAlias = tuple[int, int]  # a pair: the numbers of its source and its target


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a pair that is not proven: whether the source got a reply, the sender's address that the target
    saw (b"": it saw no request), and why the source could not send (0: it could)."""

    replied: bool
    seen_source: bytes = b""
    errno: int = 0


class MeshEvidence:
    """The packets of one mesh. Members have numbers; `own` gives the addresses that a member may be seen with."""

    def __init__(self, tag: bytes, own: Callable[[int], frozenset[bytes]]) -> None:
        self._tag, self._own = tag, own
        self._usual: dict[int, bytes] = {}  # the address with which a source was seen last, or may be seen
        self._waiting: dict[int, set[Echo]] = {}  # by the number of the member whose socket waits
        self._wrong: dict[Cell, bytes] = {}  # addresses that are not the source's own
        self._errors: dict[Cell, int] = {}

    def begin(self, numbers: Iterable[int]) -> None:
        """Begin to expect packets at these members. Nothing else is expected from now on."""
        self._waiting = {number: set() for number in numbers}
        self._wrong, self._errors = {}, {}

    def expect(self, version: int, sources: Sequence[int], targets: Sequence[int], addresses: Sequence[bytes]) -> None:
        """Expect the packets between each of these sources and each of these targets, which have these addresses."""
        tag, kind, waiting = self._tag, ECHO_REPLY[version], self._waiting
        pairs = list(zip(targets, addresses, strict=True))
        for source in sources:
            waiting[source].update([(ip, kind, tag, source, target) for target, ip in pairs])
        kind = ECHO_REQUEST[version]
        own = [(source, self._usual_address(source)) for source in sources]
        for target in targets:
            waiting[target].update([(ip, kind, tag, source, target) for source, ip in own])

    def refuse(self, version: int, cell: Cell, address: bytes, errno: int) -> None:
        """A packet to this address could not be sent."""
        self._errors[cell] = errno
        self._waiting[cell[0]].discard((address, ECHO_REPLY[version], self._tag, *cell))
        self._forget_request(ECHO_REQUEST[version], cell)

    def record(self, number: int, echoes: list[Echo]) -> None:
        """The socket of this member has received these packets."""
        waiting = self._waiting.get(number)
        if waiting is None:
            return
        found = set(echoes)
        strange = found - waiting
        waiting -= found
        for echo in strange:
            self._record_strange(number, echo)

    def waiting(self) -> list[int]:
        """The members that have not received all."""
        return [number for number, echoes in self._waiting.items() if echoes]

    def waiting_count(self) -> int:
        """How many packets were not received yet."""
        return sum(map(len, self._waiting.values()))

    def unproven(self) -> dict[Cell, Observation]:
        """The pairs that are not proven, in the order of their numbers."""
        unseen: set[Cell] = set()
        unanswered: set[Cell] = set()
        for echoes in self._waiting.values():
            for _, kind, _, source, target in echoes:
                (unseen if kind in REQUESTS else unanswered).add((source, target))
        found: dict[Cell, Observation] = {}
        for cell in sorted({*unseen, *unanswered, *self._wrong, *self._errors}):
            if errno := self._errors.get(cell, 0):
                found[cell] = Observation(False, errno=errno)
                continue
            seen = self._wrong.get(cell) or (b"" if cell in unseen else self._usual_address(cell[0]))
            found[cell] = Observation(cell not in unanswered, seen)
        return found

    def _usual_address(self, source: int) -> bytes:
        if source not in self._usual:
            self._usual[source] = min(self._own(source), default=b"")
        return self._usual[source]

    def _record_strange(self, number: int, echo: Echo) -> None:
        """A packet that was not expected. It counts if it is a request of a pair that is not proven yet, at its
        target."""
        address, kind, tag, source, target = echo
        cell = (source, target)
        if tag != self._tag or kind not in REQUESTS or target != number or source not in self._waiting:
            return
        if not self._is_pending(kind, cell):
            return  # a late packet of a proven pair
        self._forget_request(kind, cell)
        if address in self._own(source):
            self._usual[source] = address
            self._wrong.pop(cell, None)
        else:
            self._wrong[cell] = address

    def _is_pending(self, kind: int, cell: Cell) -> bool:
        """Whether a pair still waits for a request or a reply, or was seen with a wrong address."""
        source, target = cell
        requests = ((address, kind, self._tag, *cell) for address in self._candidates(source))
        return (
            cell in self._wrong
            or any(echo in self._waiting[target] for echo in requests)
            or any(echo[4] == target and echo[1] not in REQUESTS for echo in tuple(self._waiting[source]))
        )

    def _forget_request(self, kind: int, cell: Cell) -> None:
        for address in self._candidates(cell[0]):
            self._waiting[cell[1]].discard((address, kind, self._tag, *cell))

    def _candidates(self, source: int) -> frozenset[bytes]:
        """The addresses under which a request of this source can be expected."""
        return self._own(source) | {self._usual_address(source)}
