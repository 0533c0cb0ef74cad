import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar

import pytest

from devin_pipeline.devin_api import InvalidResponse, RateLimited, Unreachable
from devin_pipeline.devin_api.cancellation import CancelToken
from devin_pipeline.devin_api.retry import Deadline, Retrier, backoff_seconds, requested_wait
from devin_pipeline_tests.devin_api.scripted import FakeTime

pytestmark = pytest.mark.notices(
    "Retry-After not waited for",
    "Retry-After below a second",
    "Retry-After by our own clock",
    "a pause one thread was asked for, for the others",
    "a wait beyond the deadline",
    "more tries by mixing kinds of failure",
    "the requests in flight",
)

T = TypeVar("T")

NOW = datetime(2030, 1, 1, tzinfo=UTC)
DATE = "Sat, 01 Mar 2025 12:00:00 GMT"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("2", 2.0),
        (" 2.5 ", 2.5),
        ("0", 1.0),
        ("Sat, 01 Mar 2025 12:00:07 GMT", 7.0),
        ("Sat, 01 Mar 2025 11:00:00 GMT", 1.0),
        ("1000000000", 1e9),
    ],
)
def test_both_forms_of_retry_after_are_read_by_the_servers_own_clock(header: str, seconds: float) -> None:
    assert requested_wait(header, DATE, NOW) == seconds


@pytest.mark.parametrize("header", [None, "", "-1", "soon", "1e9", "nan", "inf", "٣", "Sat, 99 Mar 2025 12:00:07 GMT"])
def test_an_unusable_retry_after_is_left_to_the_backoff(header: str | None) -> None:
    assert requested_wait(header, DATE, NOW) is None


def test_without_a_date_header_our_own_clock_measures() -> None:
    assert requested_wait("Tue, 01 Jan 2030 00:00:09 GMT", None, NOW) == 9.0


def test_the_backoff_doubles_up_to_its_cap_and_any_share_of_it_may_be_waited() -> None:
    assert [backoff_seconds(n, lambda: 1.0) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff_seconds(3, lambda: 0.25) == 0.5


def ask(errors: list[Exception], fake: FakeTime, *, budget: float = 600, cancel: CancelToken | None = None) -> int:
    """Return how many attempts it took until the errors ran out."""
    attempts = 0

    def attempt() -> int:
        nonlocal attempts
        attempts += 1
        if errors:
            raise errors.pop(0)
        return attempts

    retrier = Retrier(at_once=1, sleep=fake.sleep, clock=fake.clock, random=lambda: 1.0)
    return retrier.call(attempt, as_sent, deadline=Deadline.after(budget, fake.clock), cancel=cancel or CancelToken())


def as_sent(response: T) -> T:
    return response


def unreachable() -> Unreachable:
    return Unreachable("w", "w", "t", more_tries=5)


def wrong_shape() -> InvalidResponse:
    return InvalidResponse("w", "w", "t", more_tries=2)


def test_what_passes_by_itself_gets_six_tries_and_no_more() -> None:
    fake = FakeTime()
    assert ask([unreachable() for _ in range(5)], fake) == 6
    assert fake.slept == [0.5, 1, 2, 4, 8]
    left: list[Exception] = [unreachable() for _ in range(9)]
    with pytest.raises(Unreachable):
        ask(left, FakeTime())
    assert len(left) == 3


def test_a_wrong_shape_gets_two_further_tries_of_its_own() -> None:
    assert ask([unreachable(), unreachable(), wrong_shape(), wrong_shape()], FakeTime()) == 5
    left: list[Exception] = [wrong_shape() for _ in range(9)]
    with pytest.raises(InvalidResponse):
        ask(left, FakeTime())
    assert len(left) == 6


def test_kinds_of_failure_in_turn_get_no_more_than_six_tries_together() -> None:
    left: list[Exception] = [*(unreachable() for _ in range(5)), wrong_shape(), wrong_shape()]
    with pytest.raises(InvalidResponse):
        ask(left, FakeTime())
    assert len(left) == 1


def test_what_the_api_refuses_is_not_retried() -> None:
    fake = FakeTime()
    left: list[Exception] = [InvalidResponse("w", "w", "t"), unreachable()]
    with pytest.raises(InvalidResponse):
        ask(left, fake)
    assert len(left) == 1
    assert fake.slept == []


def test_a_wait_that_would_pass_the_deadline_is_not_begun() -> None:
    fake = FakeTime()
    with pytest.raises(RateLimited):
        ask([RateLimited("w", "w", "t", more_tries=5, wait_seconds=200)], fake, budget=100)
    assert fake.slept == []


def test_a_pause_asked_of_one_thread_holds_for_the_others() -> None:
    fake = FakeTime()
    retrier = Retrier(at_once=1, sleep=fake.sleep, clock=fake.clock, random=lambda: 1.0)
    errors = [RateLimited("w", "w", "t", more_tries=5, wait_seconds=60)]

    def attempt() -> str:
        if errors:
            raise errors.pop()
        return "asked"

    assert retrier.call(attempt, as_sent, deadline=Deadline.after(600, fake.clock), cancel=CancelToken()) == "asked"
    # As another thread sees it that asks half-way through the pause.
    fake.at -= 30
    assert retrier.call(attempt, as_sent, deadline=Deadline.after(600, fake.clock), cancel=CancelToken()) == "asked"
    assert fake.slept == [60, 30]
    fake.at -= 60
    with pytest.raises(RateLimited, match="longer than this read may last"):
        retrier.call(attempt, as_sent, deadline=Deadline.after(20, fake.clock), cancel=CancelToken())


def test_a_read_that_was_cancelled_sends_nothing_more() -> None:
    cancel = CancelToken()
    cancel.set()
    with pytest.raises(CancelledError):
        ask([], FakeTime(), cancel=cancel)


def test_cancelling_ends_a_wait() -> None:
    cancel = CancelToken()
    retrier = Retrier(at_once=1)
    threading.Timer(0.05, cancel.set).start()

    def attempt() -> None:
        raise RateLimited("w", "w", "t", more_tries=5, wait_seconds=60)

    with pytest.raises(CancelledError):
        retrier.call(attempt, as_sent, deadline=Deadline.after(600), cancel=cancel)


def test_no_more_ask_at_once_than_may_however_many_read_their_answers() -> None:
    retrier = Retrier(at_once=2)
    counted = threading.Lock()
    asking = most_asking = responses = 0
    all_have_theirs = threading.Event()

    def send() -> None:
        nonlocal asking, most_asking
        with counted:
            asking += 1
            most_asking = max(most_asking, asking)
        # Long enough for the others to come here, if nothing holds them.
        all_have_theirs.wait(0.02)
        with counted:
            asking -= 1

    def read(_: None) -> bool:
        nonlocal responses
        with counted:
            responses += 1
            if responses == 6:
                all_have_theirs.set()
        return all_have_theirs.wait(20)

    with ThreadPoolExecutor(6) as threads:
        asked = [
            threads.submit(retrier.call, send, read, deadline=Deadline.after(600), cancel=CancelToken())
            for _ in range(6)
        ]
        assert all(each.result() for each in asked)
    assert most_asking == 2


def test_a_thread_that_waits_for_a_slot_while_the_read_is_cancelled_sends_nothing_more() -> None:
    retrier, cancel = Retrier(at_once=1), CancelToken()
    sent, response = threading.Event(), threading.Event()

    def slow() -> bool:
        sent.set()
        return response.wait(20)

    def asked_all_the_same() -> bool:
        pytest.fail("asked although it was cancelled")

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(retrier.call, slow, as_sent, deadline=Deadline.after(600), cancel=cancel)
        assert sent.wait(20)
        second = threads.submit(retrier.call, asked_all_the_same, as_sent, deadline=Deadline.after(600), cancel=cancel)
        cancel.set()
        response.set()
        assert first.result() is True
        with pytest.raises(CancelledError):
            second.result()


@pytest.mark.notices("one line for each thread that waits")
def test_a_long_wait_is_logged_once_with_its_reason_and_its_end() -> None:
    fake, lines = FakeTime(), list[str]()
    retrier = Retrier(at_once=8, sleep=fake.sleep, clock=fake.clock, random=lambda: 1.0, log=lines.append)

    def fail_once(at: float, wait: float) -> None:
        errors = [RateLimited("raw_x could not be read", "429", "t", more_tries=5, wait_seconds=wait)]

        def attempt() -> None:
            if errors:
                fake.at = at
                raise errors.pop()

        retrier.call(attempt, as_sent, deadline=Deadline.after(6_000, fake.clock), cancel=CancelToken())

    fail_once(0, 10)
    assert lines == []
    before = datetime.now(UTC)
    fail_once(1_000, 90)
    start, _, rest = lines[0].partition("until ")
    assert start == "raw_x could not be read: 429. Waiting for 90 s, "
    hours, minutes, seconds = map(int, rest[:8].split(":"))
    until = before.replace(hour=hours, minute=minutes, second=seconds)
    assert 88 < (until - before).total_seconds() % 86_400 < 100
    # As other threads get it whose requests were in flight.
    fail_once(1_001, 90)
    fail_once(1_002, 85)
    assert len(lines) == 1
    fail_once(1_050, 90)
    assert len(lines) == 2
