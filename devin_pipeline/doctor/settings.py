"""Checks of the settings: address, keys, feeds, scope, days. Nothing is asked of the API."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

from devin_pipeline.devin_api import (
    FEED_BY_TABLE,
    VARIABLES,
    check_key,
    check_organization,
    check_surroundings,
    masked,
)
from devin_pipeline.doctor.check_result import CheckResult, Said, look
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.settings import V2_KEY, V3_KEY, Settings
from devin_pipeline.tables import MONEY_TABLES, Table


def findings(settings: Settings) -> Iterator[CheckResult]:
    """Every finding, as soon as it is made."""
    yield look("address", "", lambda: ("ok", settings.api_url, ""))
    yield look("proxies_and_certificates", "", partial(_surroundings, settings))
    for kind, variable in VARIABLES.items():
        yield look("key", variable, partial(_key, settings, kind, variable))
    yield look("feeds", "", partial(_feeds, settings))
    for table in MONEY_TABLES:
        yield look("bill", table.name, partial(_bill, settings, table))
    yield look("scope", "", partial(_scope, settings))
    yield look("days", "", partial(_days, settings))
    yield look("old_runs", "", partial(_old_runs, settings))


def _old_runs(settings: Settings) -> Said:
    return "ok", f"removed by `maintain` {settings.keep_runs_days} days after they ended", ""


def _surroundings(settings: Settings) -> Said:
    if (url := _address(settings)) is None:
        return "skipped", "there is no address to connect to", ""
    if url.startswith("http:"):
        return "ok", "an address of this machine is asked without either", ""
    check_surroundings(url)
    return "ok", "those of the environment can be used", ""


def _address(settings: Settings) -> str | None:
    try:
        return settings.api_url
    except ConfigurationError:
        return None  # the check `address` says what is wrong


def _key(settings: Settings, kind: Literal["v2", "v3"], variable: str) -> Said:
    if not settings.key_is_set(variable):
        feeds = " and ".join(table for table, feed in FEED_BY_TABLE.items() if feed.key == kind)
        return "skipped", f"it is not set, so {feeds} cannot be read", ""
    shown = masked(settings.key(variable) or "")
    try:
        check_key(kind, settings.key(variable) or "")
    except ConfigurationError as error:
        return "failed", f"{shown} cannot be used: {error.why}", error.todo
    return "ok", f"{shown} has the shape of a key", ""


def _feeds(settings: Settings) -> Said:
    if feeds := settings.feeds:
        return "ok", f"read are {', '.join(feeds)}", ""
    return "failed", f"neither {V3_KEY} nor {V2_KEY} is set, so there is nothing to read", "Set one or both"


def _bill(settings: Settings, table: Table) -> Said:
    why = settings.why_not_read(table.name)
    return ("skipped", f"it is not read: {why}", "") if why else ("ok", "it is read", "")


def feeds_to_look_at(settings: Settings) -> list[str]:
    """The feeds that are read; all of them where DEVIN_FEEDS cannot be used."""
    try:
        return settings.feeds
    except ConfigurationError:
        return list(FEED_BY_TABLE)  # the check `feeds` says what is wrong


def _scope(settings: Settings) -> Said:
    org_id = settings.organization
    return "ok", "the whole enterprise" if org_id is None else f"the organization {check_organization(org_id)}", ""


def _days(settings: Settings) -> Said:
    hour = settings.day_starts_at_utc_hour
    return "ok", f"from {settings.start_date} on; a day starts at {hour:02}:00 UTC", ""
