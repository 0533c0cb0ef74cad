"""Every setting of the pipeline, declared once: its variable, default, kind of value and meaning.

docs/configuration.md and .env.example are generated from this list; a setting of the kind `internal` is left out there.

A setting is checked when it is asked for, so that a command needs only those it uses. The command line and
`definitions` read them from the environment and hand them on; no other room does. Proxies and certificates are not
ours: httpx reads them.
"""

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from devin_pipeline.billing_calendar import BILLING_HOUR, day_of
from devin_pipeline.errors import ConfigurationError
from devin_pipeline.shell import pipeline_command

V2_KEY = "DEVIN_V2_API_KEY"
V3_KEY = "DEVIN_V3_API_KEY"

StoredReport = Literal["full", "no-text", "none"]

_BEFORE_DEVIN = date(2020, 1, 1)
# More days than these are hardly meant, and fewer would have sensors request runs again.
_LEAST_DAYS_OF_RUNS, _MOST_DAYS_OF_RUNS = 7, 36500


def _setting(default: Any, kind: str, meaning: str, **more: Any) -> Any:
    return Field(default=default, description=meaning, json_schema_extra={"kind": kind}, **more)


class Settings(BaseSettings):
    """The settings as text, by variable, and as what they mean, by property.

    One that is given wins over the environment; an empty one counts as not set. No key is in a repr or an error.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # Text: what is set wrongly is refused by the property that reads it, in words of ours.
    DEVIN_V3_API_KEY: SecretStr | None = _setting(
        None,
        "secret",
        "Key `cog_…` of a service user with `ViewAccountSessions` at the enterprise level. Turns the two v3 feeds on.",
    )
    DEVIN_V2_API_KEY: SecretStr | None = _setting(
        None, "secret", "Personal key `apk_user_…` of an Enterprise Admin. Turns the v2 feed on."
    )
    DEVIN_SECRETS_DIR: str = _setting(
        "",
        "folder",
        "Folder of mounted secrets: a key that is not set is read from the file named like its variable, each time it "
        "is needed.",
    )
    DEVIN_FEEDS: str = _setting(
        "", "table names", "Raw tables to read, separated by commas. Default: all that the keys allow."
    )
    DEVIN_ORG_ID: str = _setting(
        "",
        "text",
        "The one organization to read, through the organization-scoped endpoints. Default: the whole enterprise.",
    )
    DEVIN_API_URL: str = _setting(
        "https://api.devin.ai",
        "URL",
        "Root of the API. `http://` is accepted for a loopback address only.",
        repr=False,
    )
    DEVIN_LAKE: str = _setting(
        "data",
        "folder or URI",
        "Folder or object-store URI of the lake. A path with control characters, a backslash, a vertical bar or one of "
        "`%*?[]^` is refused.",
        repr=False,
    )
    DEVIN_START_DATE: str = _setting("2025-01-01", "date", "First day of the partitions; 2020-01-01 at the earliest.")
    DEVIN_DAY_STARTS_AT_UTC_HOUR: str = _setting(
        "8", "hour, 0 to 23", "Hour of the UTC day at which a billing day starts. `0` gives UTC days."
    )
    DEVIN_TEXT: str = _setting(
        "full",
        "`full` or `none`",
        "`none` stores no free text: prompts, titles, analyses and structured output keep their length, an `x` for "
        "each character.",
    )
    DEVIN_REPORT: str = _setting(
        "full",
        "`full`, `no-text` or `none`",
        "The report that each run writes into the lake: with prompts and feedback, without them, or no report.",
    )
    DEVIN_SESSION_PRODUCTS: str = _setting(
        "devin,automation",
        "products",
        "Products of the bill whose ACUs sessions consume, separated by commas; the others have no sessions.",
    )
    DEVIN_SESSION_CONSUMPTION_REQUESTS: str = _setting(
        "400",
        "requests",
        "For how many sessions a run asks at most on which days they consumed their ACUs. `0` asks for none.",
    )
    DEVIN_RESIDUAL_LEAST_ACUS: str = _setting(
        "1",
        "ACUs",
        "Days and organizations billed less than this are left out of the checks that compare the bill with sessions.",
    )
    DEVIN_KEEP_RUNS_DAYS: str = _setting(
        "180",
        f"days, {_LEAST_DAYS_OF_RUNS} to {_MOST_DAYS_OF_RUNS}",
        "How many days after its end `maintain` keeps what Dagster recorded of a run.",
    )
    DEVIN_QUERY_SECONDS: str = _setting(
        "300", "seconds", "How long a `query` may take until its last row is written. `0` means no limit."
    )
    DEVIN_QUERY_MEMORY: str = _setting(
        "", "size", "Memory that a `query` may take, as `4GB` or `500MB`; at least 32MB. Default: half the machine's."
    )
    DEVIN_PIPELINE_DEMO: str = _setting("", "internal", "Set by the demo: the rows come from the emulator.")
    DAGSTER_HOME: str = _setting(
        ".dagster_home",
        "folder",
        "Folder of Dagster's own records. Dagster's own commands need it exported, as an absolute path.",
    )

    @property
    def is_demo(self) -> bool:
        """True when the rows come from the emulator."""
        return self.DEVIN_PIPELINE_DEMO == "1"

    @property
    def day_starts_at_utc_hour(self) -> int:
        """Hour of the UTC day at which a billing day starts.

        Raises:
            ConfigurationError: It is not a whole hour of the day.
        """
        text = self.DEVIN_DAY_STARTS_AT_UTC_HOUR
        if not (text.isascii() and text.isdigit() and int(text) < 24):
            raise ConfigurationError(
                f"DEVIN_DAY_STARTS_AT_UTC_HOUR is {text!r}", "that is not an hour", "Set it to 0 … 23"
            )
        return int(text)

    @property
    def start_date(self) -> date:
        """First day of the partitions.

        Raises:
            ConfigurationError: It is not a date, lies in the future, or before anything that is counted here.
        """
        text = self.DEVIN_START_DATE
        day = a_date(text, "DEVIN_START_DATE")
        if day > day_of(datetime.now(UTC), self.day_starts_at_utc_hour):
            why = "that is in the future"
            raise ConfigurationError(f"DEVIN_START_DATE is {text}", why, "Set it to a day that has begun")
        if day < _BEFORE_DEVIN:
            why = f"that is before {_BEFORE_DEVIN}, when there was no Devin"
            raise ConfigurationError(f"DEVIN_START_DATE is {text}", why, "Set it to the first day with sessions")
        return day

    @property
    def has_start_date(self) -> bool:
        """True when DEVIN_START_DATE is set, to whatever."""
        return "DEVIN_START_DATE" in self.model_fields_set

    @property
    def organization(self) -> str | None:
        """The one organization to read; None for the whole enterprise."""
        return self.DEVIN_ORG_ID.strip() or None

    @property
    def keeps_text(self) -> bool:
        """False when no free text may be stored.

        Raises:
            ConfigurationError: DEVIN_TEXT is neither `full` nor `none`.
        """
        text = self.DEVIN_TEXT.strip() or "full"
        if text not in ("full", "none"):
            raise ConfigurationError(
                "DEVIN_TEXT cannot be used", "it is neither full nor none", "Set it to one of them"
            )
        return text == "full"

    @property
    def stored_report(self) -> StoredReport:
        """Which report each run writes into the lake.

        Raises:
            ConfigurationError: DEVIN_REPORT is none of its values.
        """
        text = self.DEVIN_REPORT.strip() or "full"
        kinds: tuple[StoredReport, ...] = get_args(StoredReport)
        for kind in kinds:
            if text == kind:
                return kind
        raise ConfigurationError(
            f"DEVIN_REPORT is {text!r}", "it is neither full nor no-text nor none", "Set it to one of them"
        )

    @property
    def keep_runs_days(self) -> int:
        """How many days Dagster keeps what it recorded of a run after its end.

        Raises:
            ConfigurationError: It is not a number of days, or so small that sensors would request runs again.
        """
        text = self.DEVIN_KEEP_RUNS_DAYS.strip() or "180"
        if not (
            text.isascii()
            and text.isdigit()
            and len(text) < 7
            and _LEAST_DAYS_OF_RUNS <= int(text) <= _MOST_DAYS_OF_RUNS
        ):
            why = f"that is not a number of days from {_LEAST_DAYS_OF_RUNS} to {_MOST_DAYS_OF_RUNS}"
            raise ConfigurationError(f"DEVIN_KEEP_RUNS_DAYS is {text!r}", why, "Set it to 180, or remove it")
        return int(text)

    @property
    def session_products(self) -> tuple[str, ...]:
        """The products of the bill whose ACUs sessions consume, in alphabetical order.

        Raises:
            ConfigurationError: DEVIN_SESSION_PRODUCTS names none.
        """
        products = sorted({name.strip() for name in self.DEVIN_SESSION_PRODUCTS.split(",")} - {""})
        if not products:
            raise ConfigurationError(
                f"DEVIN_SESSION_PRODUCTS is {self.DEVIN_SESSION_PRODUCTS!r}",
                "that names no product",
                "Set it to devin,automation, or remove it",
            )
        return tuple(products)

    @property
    def session_consumption_requests(self) -> int:
        """For how many sessions a run asks at most on which days they consumed their ACUs.

        Raises:
            ConfigurationError: It is not a number.
        """
        text = self.DEVIN_SESSION_CONSUMPTION_REQUESTS.strip() or "400"
        if not (text.isascii() and text.isdigit() and len(text) < 7):
            raise ConfigurationError(
                f"DEVIN_SESSION_CONSUMPTION_REQUESTS is {text!r}",
                "that is not a number from 0 to 999999",
                "Set it to 400, or remove it",
            )
        return int(text)

    @property
    def residual_least_acus(self) -> Decimal:
        """ACUs that a day of an organization is billed at least before it is compared with its sessions.

        Raises:
            ConfigurationError: It is not a number.
        """
        text = self.DEVIN_RESIDUAL_LEAST_ACUS.strip() or "1"
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII):
            raise ConfigurationError(
                f"DEVIN_RESIDUAL_LEAST_ACUS is {text!r}", "that is not a number of ACUs", "Set it to 1, or remove it"
            )
        return Decimal(text)

    def key(self, variable: str) -> str | None:
        """An API key as it is set or, if it is not, as its file in DEVIN_SECRETS_DIR has it at this moment.

        Raises:
            ConfigurationError: Its file, or the folder, cannot be read.
        """
        given: SecretStr | None = getattr(self, variable)
        if given is not None:
            return given.get_secret_value()
        if not self.DEVIN_SECRETS_DIR:
            return None
        folder = Path(self.DEVIN_SECRETS_DIR)
        try:
            # The folder first: without it each key would look as if it were left out on purpose.
            return (folder / variable).read_text() if folder / variable in folder.iterdir() else None
        except (OSError, UnicodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or "it is not text"
            todo = "Set it to a folder whose files are named like the variables of the keys, and make them readable"
            raise ConfigurationError(f"{variable} cannot be read from DEVIN_SECRETS_DIR", why, todo) from None

    def key_is_set(self, variable: str) -> bool:
        """True when an API key holds something."""
        return bool((self.key(variable) or "").strip())

    @property
    def api_url(self) -> str:
        """Root of the API.

        Raises:
            ConfigurationError: It is not an https URL, nor http to a loopback address.
        """
        from devin_pipeline.devin_api import check_url

        return check_url(self.DEVIN_API_URL)

    @property
    def feeds(self) -> list[str]:
        """The raw tables of sessions to read: those that DEVIN_FEEDS names, or all that the keys allow.

        Raises:
            ConfigurationError: DEVIN_FEEDS names something else than a raw table, or one whose key is not set.
        """
        from devin_pipeline.devin_api import FEED_BY_TABLE

        allowed = [table for table, feed in FEED_BY_TABLE.items() if self.key_is_set(feed.key_variable)]
        named = self._named_tables()
        for name in named:
            if name in FEED_BY_TABLE and allowed and name not in allowed:
                why = f"its key {FEED_BY_TABLE[name].key_variable} is not set"
                raise ConfigurationError(f"DEVIN_FEEDS names {name}", why, "Set the key or drop the feed")
        return [table for table in allowed if not named or table in named]

    @property
    def money_tables(self) -> list[str]:
        """The raw tables of the bill and the lists to read: those that DEVIN_FEEDS names, or all that the keys allow.

        Raises:
            ConfigurationError: DEVIN_FEEDS names something else than a raw table.
        """
        from devin_pipeline.tables import MONEY_TABLES

        return [table.name for table in MONEY_TABLES if not self.why_not_read(table.name)]

    def why_not_read(self, table: str) -> str:
        """Why a raw table of the bill or of the lists is not read; empty if it is.

        Args:
            table: Its name.

        Raises:
            ConfigurationError: DEVIN_FEEDS names something else than a raw table.
        """
        from devin_pipeline.tables import RAW_DIRECTORY, RAW_SESSION_CONSUMPTION

        named = self._named_tables()
        if not (self.key_is_set(V3_KEY) or self.key_is_set(V2_KEY)):
            return f"neither {V3_KEY} nor {V2_KEY} is set"
        if table == RAW_SESSION_CONSUMPTION.name and not self.key_is_set(V3_KEY):
            return f"{V3_KEY} is not set, and v2 does not say it"
        if table != RAW_DIRECTORY.name and self.day_starts_at_utc_hour != BILLING_HOUR:
            return f"it is by days that start at {BILLING_HOUR:02}:00 UTC, and DEVIN_DAY_STARTS_AT_UTC_HOUR is another"
        return "" if not named or table in named else "DEVIN_FEEDS does not name it"

    def _named_tables(self) -> list[str]:
        """The raw tables that DEVIN_FEEDS names."""
        from devin_pipeline.devin_api import FEED_BY_TABLE
        from devin_pipeline.tables import MONEY_TABLES

        known = [*FEED_BY_TABLE, *(table.name for table in MONEY_TABLES)]
        named = [name.strip() for name in self.DEVIN_FEEDS.split(",") if name.strip()]
        for name in named:
            if name not in known:
                raise ConfigurationError(
                    f"DEVIN_FEEDS names {name!r}", "there is no such feed", f"Use some of {', '.join(known)}"
                )
        return named

    def require_usable(self) -> None:
        """Refuse settings that no run could work with, before any request.

        Raises:
            ConfigurationError: No key is set, or a key, DEVIN_TEXT, DEVIN_REPORT or DEVIN_FEEDS is unusable.
            ConfigurationError: The URL, the organization, or a proxy or certificates of the environment are unusable.
        """
        from devin_pipeline.devin_api import check_key, check_organization, check_surroundings

        url = self.api_url
        _ = self.keeps_text, self.stored_report
        if self.organization:
            check_organization(self.organization)
        for variable in (V2_KEY, V3_KEY):
            if self.key_is_set(variable):
                check_key("v2" if variable == V2_KEY else "v3", self.key(variable) or "")
        _ = self.session_products, self.session_consumption_requests, self.residual_least_acus, self.money_tables
        if not self.feeds and self._named_tables() and (self.key_is_set(V3_KEY) or self.key_is_set(V2_KEY)):
            raise ConfigurationError(
                "There is nothing to read", "DEVIN_FEEDS names no feed of sessions", "Name one, or remove DEVIN_FEEDS"
            )
        if not self.feeds:
            raise ConfigurationError(
                "There is nothing to read",
                f"neither {V3_KEY} nor {V2_KEY} is set",
                f"Set one or both; `{pipeline_command('demo')}` needs none",
            )
        # guard: a proxy of the environment that cannot be used, before any work
        check_surroundings(url)


def a_date(text: str, name: str) -> date:
    """The date written as YYYY-MM-DD in the setting or option `name`.

    Raises:
        ConfigurationError: It is written otherwise (`20261105` too) or is not a date.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # guard: a date written otherwise | or day.isoformat() != text
    if day is None or day.isoformat() != text:
        raise ConfigurationError(f"{name} is {text!r}", "that is not a date", "Write it as 2026-01-31")
    return day
