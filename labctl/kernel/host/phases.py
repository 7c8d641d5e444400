"""How long each phase of a command takes: what `labctl up --profile` prints.

A phase lasts until the next one begins. `begin` does nothing unless `measure` has been called, so the code that is
measured can name its phases always.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass

from labctl.core.sentence import Sentence, sentence

_END = sentence("end")
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase that is over. `seconds` is the time that passed; `cpu_seconds` the processor time of labctl and of the
    programs that it waited for."""

    name: Sentence
    seconds: float
    cpu_seconds: float


class _Recorder:
    def __init__(self, first: Sentence) -> None:
        self.done: list[Phase] = []
        self._name = first
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._since, self._cpu = _process_start() or now, 0.0

    def begin(self, name: Sentence) -> None:
        now, cpu = time.clock_gettime(time.CLOCK_BOOTTIME), _cpu_seconds()
        self.done.append(Phase(self._name, max(now - self._since, 0.0), cpu - self._cpu))
        self._name, self._since, self._cpu = name, now, cpu


_recorders: list[_Recorder] = []


def measure(first: Sentence) -> None:
    """Measure from now on. The first phase, `first`, began with the process."""
    _recorders[:] = [_Recorder(first)]


def begin(name: Sentence) -> None:
    """The phase before is over, and this one begins."""
    for recorder in _recorders:
        recorder.begin(name)


def finish() -> tuple[Phase, ...]:
    """End the last phase. Returns all of them, none if nothing was measured."""
    done: tuple[Phase, ...] = ()
    for recorder in _recorders:
        recorder.begin(_END)
        done = tuple(recorder.done)
    _recorders.clear()
    return done


def peak_memory() -> int:
    """The most memory that this process has used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu_seconds() -> float:
    usage = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in usage)


def _process_start() -> float | None:
    """When this process began, in seconds since the machine started; in steps of 10 ms. None if /proc does not say."""
    try:
        with open("/proc/self/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19]) / _CLOCK_TICKS
    except (OSError, ValueError, IndexError):
        return None
