"""Which request meets which fault and which event, by number or by chance from a seed."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from devin_pipeline.emulator.faults.events import EVENTS, Event
from devin_pipeline.emulator.faults.exchange import Exchange
from devin_pipeline.emulator.faults.pages import LIES
from devin_pipeline.emulator.faults.responses import TRANSIENT, Fault

_Plan = Callable[[int], tuple[Sequence[Event], Fault | None, random.Random]]


class FaultScript:
    """Which request meets which fault and which event; counts what really took place.

    Requests are numbered from 1 in the order they arrive once the script is armed.
    """

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._asked = 0
        self._sent: Counter[str] = Counter()
        self._happened: Counter[str] = Counter()

    @classmethod
    def of(cls, faults: Mapping[int, Fault], events: Mapping[int, Event] | None = None) -> FaultScript:
        """Faults and events at exact requests; 0 stands for every request without one of its own."""
        before = events or {}

        def plan(number: int) -> tuple[Sequence[Event], Fault | None, random.Random]:
            event = before.get(number, before.get(0))
            rng = random.Random(number)  # noqa: S311 - repeatable, not secret
            return [event] if event else [], faults.get(number, faults.get(0)), rng

        return cls(plan)

    @classmethod
    def seeded(
        cls,
        seed: int,
        *,
        rate: float = 0.1,
        kinds: Collection[Fault] = (*TRANSIENT, *LIES),
        event_rate: float = 0.0,
        events: Collection[Event] = EVENTS,
    ) -> FaultScript:
        """Faults and events by chance: the same seed plans the same for the same number of a request.

        Args:
            seed: Any integer.
            rate: The share of requests that are to meet a fault, 0 to 1.
            kinds: What may be sent.
            event_rate: The share of requests before which something happens.
            events: What may happen.
        """
        faults, happenings = list(kinds), list(events)

        def plan(number: int) -> tuple[Sequence[Event], Fault | None, random.Random]:
            rng = random.Random(f"{seed}/faults/{number}")  # noqa: S311 - repeatable, not secret
            fault = rng.choice(faults) if rng.random() < rate else None
            event = [rng.choice(happenings)] if rng.random() < event_rate else []
            return event, fault, rng

        return cls(plan)

    @property
    def sent(self) -> Counter[str]:
        """How many faults were really sent, by kind."""
        with self._lock:
            return self._sent.copy()

    @property
    def happened(self) -> Counter[str]:
        """How many events took place, by name."""
        with self._lock:
            return self._happened.copy()

    @property
    def asked(self) -> int:
        """How many requests have arrived."""
        with self._lock:
            return self._asked

    async def play(self, exchange: Exchange) -> bool:
        """Let happen what is planned for the next request; True when it was answered, if only by a silence."""
        with self._lock:
            self._asked += 1
            events, fault, rng = self._plan(self._asked)
        for event in events:
            with exchange.enterprise.lock:
                took_place = event(exchange.enterprise, rng)
            if took_place:
                with self._lock:
                    self._happened[event.__name__] += 1
        if fault is None:
            return False
        exchange.counted_by(partial(self._count, fault))
        return await fault.spoil(exchange)

    def _count(self, fault: Fault) -> None:
        with self._lock:
            self._sent[fault.kind] += 1
