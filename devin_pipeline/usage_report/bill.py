"""What the section of the bill shows: its bands by day or week, and what came of each day.

Its measures are read in `figures`; how bands are drawn belongs to `charts`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from devin_pipeline.shell import pipeline_command
from devin_pipeline.tables import measures as m
from devin_pipeline.tables.measures import Measure
from devin_pipeline.usage_report.figures import Figure, Figures, Group

SESSIONS = "consumed by sessions"
OTHER_PRODUCTS = "products without sessions"
NO_PRODUCT = "billed, no product named"
RESIDUAL = "residual"
REST = "rest of a bill without products"
UNKNOWN_CONSUMPTION = "billed, consumption unknown"
NO_BILL = "consumed, without a bill"
BANDS = (SESSIONS, OTHER_PRODUCTS, NO_PRODUCT, REST, UNKNOWN_CONSUMPTION, NO_BILL, RESIDUAL)
"""From the bottom to the top."""

_STATUSES = {
    "exact": "exact",
    "within_1_percent": "within 1 %",
    "within_5_percent": "within 5 %",
    "unexplained": "above 5 %",
    "provisional": "not closed yet",
    "no_split": "with a bill that names no products",
    "source_broken": "without ACUs of sessions",
    "no_bill": "without a bill",
    "not_permitted": "whose bill the key may not read",
}
_BILLING_HOUR = 8


@dataclass(frozen=True)
class BillTime:
    """A day of the bill, or a week.

    Attributes:
        time: The day, or the first of the week.
        status: What came of it, in words.
        is_closed: Whether its bill is final, as far as is known.
        bands: What is stacked: their sum is what was billed, but for `NO_BILL`.
        billed: Billed ACUs; None without a bill.
        consumed: Consumed ACUs; None where they are unknown.
        residual: The residual; None where there is none, or not yet.
    """

    time: date
    status: str
    is_closed: bool
    bands: Mapping[str, Decimal]
    billed: Decimal | None
    consumed: Decimal | None
    residual: Decimal | None


def bill_over_time(f: Figures) -> list[BillTime]:
    """The days whose bill was asked for; by week where the report is."""
    statuses = {group.key[0]: str(group.key[1]) for group in f.groups["bill_status_of_day"]}
    days = [
        _day(group, day, statuses.get(day, "")) for group in f.groups["bill"] if isinstance(day := group.key[0], date)
    ]
    return _weeks(days) if f.by_week else days


def _day(group: Group, day: date, status: str) -> BillTime:
    billed, of_sessions, of_others, of_none, residual = (
        _amount(group, measure)
        for measure in (
            m.BILLED_ACUS,
            m.BILLED_ACUS_OF_PRODUCTS_WITH_SESSIONS,
            m.BILLED_ACUS_OF_PRODUCTS_WITHOUT_SESSIONS,
            m.BILLED_ACUS_UNSPLIT,
            m.RESIDUAL_ACUS,
        )
    )
    # A day on which no session was at work has no row.
    consumed = _amount(group, m.CONSUMED_ACUS) or Decimal(0)
    others = {OTHER_PRODUCTS: of_others or Decimal(0), NO_PRODUCT: of_none or Decimal(0)}
    if billed is None:
        bands = {NO_BILL: consumed}
    elif of_sessions is None:
        bands = {SESSIONS: consumed, REST: billed - consumed}
    elif status == "source_broken":
        bands = {UNKNOWN_CONSUMPTION: of_sessions, **others}
    else:
        # Of a day that is not closed it is drawn, but no figure yet.
        bands = {SESSIONS: consumed, **others, RESIDUAL: of_sessions - consumed if residual is None else residual}
    return BillTime(
        day,
        _STATUSES.get(status, status),
        status != "provisional",
        bands,
        billed,
        None if status == "source_broken" else consumed,
        residual,
    )


def _weeks(days: Sequence[BillTime]) -> list[BillTime]:
    for measure in (m.BILLED_ACUS, m.CONSUMED_ACUS, m.RESIDUAL_ACUS):
        measure.require_additive("week")
    weeks: dict[date, list[BillTime]] = {}
    for day in days:
        weeks.setdefault(day.time - timedelta(days=day.time.weekday()), []).append(day)
    return [
        BillTime(
            week,
            ", ".join(dict.fromkeys(day.status for day in of_week)),
            all(day.is_closed for day in of_week),
            {
                band: sum((day.bands[band] for day in of_week if band in day.bands), Decimal(0))
                for band in BANDS
                if any(band in day.bands for day in of_week)
            },
            *(
                _sum([getattr(day, name) for day in of_week])  # an amount is unknown if all are
                for name in ("billed", "consumed", "residual")
            ),
        )
        for week, of_week in weeks.items()
    ]


def bands_shown(times: Sequence[BillTime]) -> list[str]:
    """The bands that hold something, and the residual wherever there is one: that it is 0 is what people look for."""
    return [
        band
        for band in BANDS
        if any(time.bands.get(band) for time in times)
        or (band == RESIDUAL and any(band in time.bands for time in times))
    ]


def days_by_status(f: Figures) -> list[tuple[str, Figure]]:
    """How many days of each status there are, in words and in the order of `_STATUSES`."""
    order = [*_STATUSES]
    groups = sorted(
        f.groups["bill_status"],
        key=lambda group: (order.index(str(group.key[0])) if group.key[0] in order else len(order), str(group.key[0])),
    )
    return [
        (_STATUSES.get(str(group.key[0]), str(group.key[0])), group.figures[m.DAYS_ASKED_FOR.name]) for group in groups
    ]


def days_of_status(f: Figures, status: str) -> Figure | None:
    """How many days of one status there are; None if there is none."""
    return next(
        (group.figures[m.DAYS_ASKED_FOR.name] for group in f.groups["bill_status"] if group.key == (status,)), None
    )


def why_no_bill(f: Figures) -> str | None:
    """Why no bill of the period is there to be shown; None if one is."""
    whose = "" if f.org_id is None else " of this organization"
    statuses = {str(group.key[0]) for group in f.groups["bill_status"]}
    if f.totals[m.BILLED_ACUS.name].value is not None:
        return None
    if f.day_starts_at_utc_hour != _BILLING_HOUR:
        return (
            f"No bill is read: bills are of days that begin at {_BILLING_HOUR:02d}:00 UTC, and those of this lake "
            f"begin at {f.day_starts_at_utc_hour:02d}:00."
        )
    todo = f"Find the reason: `{pipeline_command('doctor')}`"
    if statuses == {"not_permitted"}:
        return f"The key may not read the bill{whose}. {todo}"
    if statuses:
        return f"The API lists no bill{whose} for these days. {todo}"
    return f"No bill{whose} was read for these days. {todo}"


def _amount(group: Group, measure: Measure) -> Decimal | None:
    value = group.value(measure)
    return None if value is None else Decimal(str(value))


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if known else None
