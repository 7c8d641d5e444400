"""Pings between many pairs: one raw ICMP socket per namespace, a separate marker per pair.

The target's socket receives each request with its source address on arrival: this decides whether the target sees the
source "with its own address". The source's socket receives the reply. Probes go out in tiles, and each tile is read
before the next one, so that no buffer overflows. After an overflow a missing packet proves nothing. If there are many
pairs, several threads ask a tile each: the kernel carries a packet to its target in the system call that sends it.

A pair that is proven is only counted. What was observed is kept for pairs that are not, at most `MAX_OPEN_PAIRS`.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from itertools import chain
from typing import TypeAlias

from labctl.core.mesh_pairs import Row, each_pair, in_rows
from labctl.core.resources import IP
from labctl.core.results import MeshResult, Pair
from labctl.core.sentence import sentence
from labctl.kernel.host.thread_pool import ThreadPool
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import EXHAUSTED_ERRNOS, EXHAUSTED_HINT
from labctl.kernel.probes.echo_batch import MESSAGES, EchoReceiver, EchoSender, new_tag, prefix
from labctl.kernel.probes.mesh_evidence import Cell, MeshEvidence, Observation
from labctl.kernel.probes.mesh_sockets import Member, MeshSockets, forget_errors, socket_limit
from labctl.kernel.probes.unused_ids import ICMP_IDS

TILE = 1024  # pairs that are sent before replies are read
MAX_THREADS = 4  # that ask pairs
THREADED_PAIRS = 4 * TILE  # fewer pairs are asked by one thread
MAX_READS = 16  # of one socket before the next one has its turn
RETRY_INTERVAL_S = 0.2  # seconds between two rounds of the doubtful pairs
QUIET_S = 0.05  # seconds without any packet after which a round is over
MAX_OPEN_PAIRS = 40_000  # unproven pairs after which no further pairs are asked
REFUSALS = {errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL, errno.EMSGSIZE}
NO_SOCKET = -1  # instead of an errno: the source has no socket
# more pairs than this keep their ICMP identifiers in later rounds, to save conntrack entries
MAX_PAIRS_WITH_NEW_IDS = 2048

_NamePair: TypeAlias = tuple[str, str]  # source, target


@dataclass(slots=True)
class _State:
    """What was observed so far of one pair that is not proven."""

    replied: bool = False
    seen_source: bytes = b""
    error: str = ""
    tool_problem: str = ""  # why this probe could not be sent, if the cause is labctl or the machine, not the lab
    refused: bool = False  # the source's own kernel refused it, for a reason of the lab: a route, a rule, a size
    never_seen: bool = False  # a second probe got a reply as well, and the target did not see its request

    @property
    def is_doubtful(self) -> bool:
        """Whether another probe may show more."""
        return not self.replied or not (self.seen_source or self.never_seen)


class Mesh:
    """The pairs of one mesh. A context manager: it closes its sockets.

    `targets` has the address of each target, `own_addresses` gives those that a source may be seen with. Call `ask` for
    each part of the pairs, of at most `machines_at_once` machines, then `retry`, then `result`. Deadlines are times of
    `time.monotonic`.
    """

    def __init__(
        self, lab: str, thread: NetnsThread, targets: Mapping[str, IP], own_addresses: Callable[[str], Iterable[IP]]
    ) -> None:
        self.asked = 0
        self._targets, self._own_addresses = targets, own_addresses
        thread.start()  # raises the limit of open files
        limit = socket_limit()
        self._sockets = MeshSockets(lab, thread, limit)
        versions = {address.version for address in targets.values()}
        self.machines_at_once = limit // max(1, len(versions))
        self._numbers: dict[int, dict[str, int]] = {version: {} for version in versions}  # of the members, by name
        self._members: list[Member] = []
        self._packed: list[bytes] = []  # the address of each member that is a target
        self._prefixes: dict[int, bytes] = {}  # with which the packets of a source begin: each has an ICMP identifier
        self._tag = new_tag()
        self._evidence = MeshEvidence(self._tag, self._own)
        self._open: dict[Cell, _State] = {}  # in the order of asking
        self._tools: list[_Tools] = []  # that no thread uses now

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self._sockets.close()

    def ask(self, rows: Sequence[Row], deadline: float) -> str:
        """Probe the pairs of these rows once. Returns why some were not asked, "" if all were. The first pairs of a
        mesh are asked in any case."""
        self._prepare(rows)
        tiles = _Tiles(rows, deadline, self._problem, in_any_case=not self.asked)
        self._send(tiles)
        self.asked += sum(map(_pair_count, tiles.taken))
        self._drain(time.monotonic() + RETRY_INTERVAL_S, QUIET_S)
        for cell, observation in self._evidence.unproven().items():
            self._note(cell, observation, self._open.setdefault(cell, _State()))
        return tiles.problem

    @property
    def doubtful(self) -> list[_NamePair]:
        """The pairs to ask again: those without a reply so far, and those with a reply to a request that the target did
        not see, unless a second probe found the same."""
        return [self._names(cell) for cell in self._doubtful(self._open)]

    def retry(self, pairs: Iterable[_NamePair], deadline: float) -> bool:
        """Repeat the probes of those of these pairs that are doubtful, until none is or the deadline comes. Returns
        whether a probe can be sent for one of them. A pair with a wrong address is not repeated if it was answered,
        because that observation is certain."""
        asked = [self._cell(pair) for pair in pairs]
        while cells := self._doubtful(asked):
            if not any(self._sockets.is_usable(self._members[row]) for row, _ in cells):
                return False
            if time.monotonic() >= deadline:
                break
            if len(cells) <= MAX_PAIRS_WITH_NEW_IDS:
                self._prefixes.clear()
            self._repeat(cells, deadline)
        return True

    def result(self, doubt: str = "") -> MeshResult:
        """The pairs that were asked. `doubt` is a problem of the machine that can explain why packets were lost."""
        lost = self._sockets.overflows()
        bad = (
            self._pair(cell, state, self._tool_problem(cell, state, lost) or ("" if state.refused else doubt))
            for cell, state in self._open.items()
        )
        return MeshResult(self.asked, tuple(bad))

    # ---- members

    def _number(self, name: str, version: int) -> int:
        """The number of a member. It gets one when it is named first."""
        numbers = self._numbers[version]
        if name not in numbers:
            numbers[name] = len(self._members)
            self._members.append((name, version))
            ip = self._targets.get(name)
            self._packed.append(ip.packed if ip is not None else b"")
        return numbers[name]

    def _cell(self, pair: _NamePair) -> Cell:
        source, target = pair
        version = self._targets[target].version
        return self._number(source, version), self._number(target, version)

    def _by_version(self, rows: Sequence[Row]) -> Iterator[tuple[int, Sequence[Row]]]:
        """The rows of each IP version."""
        if len(self._numbers) == 1:
            yield next(iter(self._numbers)), rows
            return
        for version in self._numbers:
            yield version, list(in_rows(pair for pair in each_pair(rows) if self._targets[pair[1]].version == version))

    def _names(self, cell: Cell) -> _NamePair:
        return self._members[cell[0]][0], self._members[cell[1]][0]

    def _rows(self, cells: Iterable[Cell]) -> list[Row]:
        return list(in_rows(map(self._names, cells)))

    def _own(self, number: int) -> frozenset[bytes]:
        """The addresses with which a source may be seen."""
        name, version = self._members[number]
        return frozenset(ip.packed for ip in self._own_addresses(name) if ip.version == version)

    # ---- asking

    def _prepare(self, rows: Sequence[Row]) -> None:
        """Open the sockets of a part. They are ready to receive before any of its packets is sent."""
        numbers: dict[int, None] = {}
        for version, some in self._by_version(rows):
            sources = dict.fromkeys(source for source, _ in some)
            targets = chain.from_iterable(dict.fromkeys(targets for _, targets in some))
            numbers.update((self._number(name, version), None) for name in dict.fromkeys(chain(sources, targets)))
        if self._sockets.open(self._members[number] for number in numbers):
            self._tools.clear()  # the messages of a large lab would fill the memory
        self._evidence.begin(numbers)

    def _problem(self) -> str:
        """Why no further pair is to be asked; "" if there is no reason."""
        if len(self._open) + self._evidence.waiting_count() // 2 >= MAX_OPEN_PAIRS:
            return sentence("too many of those that were asked have no proof")
        return ""

    def _send(self, tiles: _Tiles) -> None:
        """Send and read all tiles; if they are many, with several threads."""
        processors = len(os.sched_getaffinity(0))  # and a thread more: one may wait for the interpreter's lock
        threads = min(MAX_THREADS, processors + 1) if tiles.pair_count >= THREADED_PAIRS else 1
        with ThreadPool("mesh") as pool:
            try:
                calls = [pool.submit(lambda: self._send_tiles(tiles)) for _ in range(threads - 1)]
                self._send_tiles(tiles)
            except BaseException:
                tiles.stop()
                raise
            for call in calls:
                call.result()

    def _send_tiles(self, tiles: _Tiles) -> None:
        tools = self._tools.pop() if self._tools else _Tools()
        while tile := tiles.take():
            touched: dict[int, None] = {}
            for version, rows in self._by_version(tile):
                numbers = self._numbers[version]
                sources_of: dict[tuple[str, ...], list[int]] = {}  # of the same targets, as most rows of a tile have
                for source, names in rows:
                    sources_of.setdefault(names, []).append(numbers[source])
                for names, sources in sources_of.items():
                    columns = tuple(numbers[name] for name in names)
                    addresses = tuple(self._packed[column] for column in columns)
                    self._evidence.expect(version, sources, columns, addresses)
                    for row in sources:
                        self._send_row(tools, row, columns, addresses)
                    touched.update(dict.fromkeys((*columns, *sources)))
            for number in touched:
                self._read(tools, number)
        self._tools.append(tools)

    def _send_row(self, tools: _Tools, row: int, columns: tuple[int, ...], addresses: tuple[bytes, ...]) -> None:
        """Send the requests of one source, to targets with these numbers and addresses."""
        version = self._members[row][1]
        sock = self._sockets.get(self._members[row])
        if sock is None:
            refused = [(column, NO_SOCKET) for column in columns]
        else:
            if row not in self._prefixes:
                self._prefixes[row] = prefix(version, ICMP_IDS.next_id(), self._tag, row)
            refused = tools.sender(version).send(sock.fileno(), self._prefixes[row], columns, addresses)
        for column, error in refused:
            self._evidence.refuse(version, (row, column), self._packed[column], error)

    def _repeat(self, cells: Sequence[Cell], deadline: float) -> None:
        """Wait for late replies, send one more probe for each pair without one, and read again."""
        self._prepare(self._rows(cells))
        for row, column in cells:
            self._evidence.expect(self._members[row][1], (row,), (column,), (self._packed[column],))
        self._drain(min(time.monotonic() + RETRY_INTERVAL_S, deadline), RETRY_INTERVAL_S)
        self._settle(cells, sent=False)
        left = self._doubtful(cells)
        self._evidence.begin({number for cell in left for number in cell})
        tiles = _Tiles(self._rows(left), deadline, str)
        self._send(tiles)
        self._drain(min(time.monotonic() + RETRY_INTERVAL_S, deadline), QUIET_S)
        for tile in tiles.taken:
            self._settle(map(self._cell, each_pair(tile)), sent=True)

    def _doubtful(self, cells: Iterable[Cell]) -> list[Cell]:
        return [cell for cell in cells if (state := self._open.get(cell)) is not None and state.is_doubtful]

    # ---- reading

    def _drain(self, deadline: float, quiet_s: float) -> None:
        """Read until all that is expected has come, no packet came for `quiet_s` seconds, or the deadline is
        reached."""
        tools = self._tools.pop() if self._tools else _Tools()
        while numbers := self._evidence.waiting():
            left = min(deadline - time.monotonic(), quiet_s)
            if left <= 0 or not self._wait(tools, numbers, left):
                break
        self._tools.append(tools)

    def _wait(self, tools: _Tools, numbers: Iterable[int], timeout_s: float) -> bool:
        """Wait for packets at the sockets of these members, and read them. Returns whether there were some."""
        poll, by_fd = select.poll(), {}
        for number in numbers:
            sock = self._sockets.get(self._members[number])
            if sock is not None:
                poll.register(sock, select.POLLIN)
                by_fd[sock.fileno()] = number
        ready = poll.poll(timeout_s * 1000)
        for fd, _ in ready:
            self._read(tools, by_fd[fd])
        return bool(ready)

    def _read(self, tools: _Tools, number: int) -> None:
        """Read what waits at the socket of a member."""
        member = self._members[number]
        sock = self._sockets.get(member)
        if sock is None:
            return
        receiver = tools.receiver(member[1])
        for _ in range(MAX_READS):
            try:
                echoes, count = receiver.receive(sock.fileno())
            except BlockingIOError:
                return
            except OSError:
                forget_errors(sock)  # an ICMP error, which was queued; the next call goes on
                continue
            self._evidence.record(number, echoes)
            if count < MESSAGES:
                return

    # ---- deciding

    def _settle(self, cells: Iterable[Cell], *, sent: bool) -> None:
        """Keep what is known of these pairs, which are open, after another look; forget those that are proven now."""
        unproven = self._evidence.unproven()
        for cell in cells:
            if cell in unproven:
                found = unproven[cell]
                self._open[cell].never_seen |= sent and found.replied and not found.seen_source
                self._note(cell, found, self._open[cell], sent=sent)
            else:
                del self._open[cell]

    def _note(self, cell: Cell, observation: Observation, state: _State, *, sent: bool = True) -> None:
        """Add what was observed to what is known of an open pair."""
        state.replied |= observation.replied
        state.seen_source = observation.seen_source or state.seen_source
        if sent:
            self._note_error(cell, observation.errno, state)
        if state.replied and state.seen_source in self._own(cell[0]):
            del self._open[cell]

    def _note_error(self, cell: Cell, number: int, state: _State) -> None:
        source, version = self._members[cell[0]]
        if number == NO_SOCKET:
            sockets = self._sockets
            reason = sockets.missing_namespaces.get(source) or sockets.inaccessible.get(source)
            state.error = reason or f"{source} has no IPv{version}"
            state.refused = source not in sockets.inaccessible
            return
        state.error = os.strerror(number) if number else ""
        state.refused = number in REFUSALS
        if number in EXHAUSTED_ERRNOS:
            state.tool_problem = EXHAUSTED_HINT
        else:
            state.tool_problem = "see labctl doctor" if number == errno.EAGAIN else ""

    def _tool_problem(self, cell: Cell, state: _State, lost: Mapping[str, str]) -> str:
        """The problem of labctl or the machine that can explain what a pair lacks; "" if there is none."""
        source, target = self._names(cell)
        inaccessible = self._sockets.inaccessible
        doubts = [state.tool_problem, inaccessible.get(source, ""), inaccessible.get(target, "")]
        doubts += [lost.get(source, "")] if not state.replied else []
        doubts += [lost.get(target, "")] if not state.seen_source else []
        return next(filter(None, doubts), "")

    def _pair(self, cell: Cell, state: _State, doubt: str) -> Pair:
        source, target = self._names(cell)
        seen = ip_address(state.seen_source) if state.seen_source else None
        unchanged = seen is not None and state.seen_source in self._own(cell[0])
        pair = Pair(source, target, self._targets[target], state.replied, seen, unchanged, state.error)
        return pair if seen is not None and not unchanged else replace(pair, tool_fault=doubt)


class _Tools:
    """What one thread sends and receives with."""

    def __init__(self) -> None:
        self._senders: dict[int, EchoSender] = {}
        self._receivers: dict[int, EchoReceiver] = {}

    def sender(self, version: int) -> EchoSender:
        """The sender of an IP version."""
        if version not in self._senders:
            self._senders[version] = EchoSender(version)
        return self._senders[version]

    def receiver(self, version: int) -> EchoReceiver:
        """The receiver of an IP version."""
        if version not in self._receivers:
            self._receivers[version] = EchoReceiver(version)
        return self._receivers[version]


def _pair_count(rows: Iterable[Row]) -> int:
    return sum(len(targets) for _, targets in rows)


class _Tiles:
    """The rows of a part, from which threads take a tile each until the deadline, or until `problem` gives a reason to
    stop. The tiles that are taken one after the other are far from each other, so that threads share no socket."""

    def __init__(
        self, rows: Sequence[Row], deadline: float, problem: Callable[[], str], *, in_any_case: bool = False
    ) -> None:
        tiles: list[list[Row]] = []
        room = 0  # for pairs, in the last tile
        for row in rows:
            if len(row[1]) > room:
                tiles.append([])
                room = TILE
            tiles[-1].append(row)
            room -= len(row[1])
        step = -(-len(tiles) // MAX_THREADS) or 1
        self._tiles = iter([tile for first in range(step) for tile in tiles[first::step]])
        self._deadline, self._problem = deadline, problem
        self._in_any_case = in_any_case  # the first tile
        self._lock = threading.Lock()
        self.pair_count = _pair_count(rows)
        self.problem = ""  # why tiles were not taken
        self.taken: list[Sequence[Row]] = []

    def take(self) -> Sequence[Row]:
        """The next tile, empty if there is none."""
        with self._lock:
            tile = None if self.problem else next(self._tiles, None)
            if tile is None:
                return ()
            if not self._in_any_case:
                late = time.monotonic() >= self._deadline
                self.problem = sentence("the time was up") if late else self._problem()
                if self.problem:
                    return ()
            self._in_any_case = False
            self.taken.append(tile)
            return tile

    def stop(self) -> None:
        """Give out no further tile."""
        self.problem = self.problem or sentence("the time was up")
