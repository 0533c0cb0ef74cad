"""What somebody writes who follows the recipes: for each file the whole of it, or what is put where in it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Put:
    """Text that is put into a file: in front of some other text in it, behind that, or at the end."""

    text: str
    before: str = ""
    after: str = ""

    def into(self, file: Path) -> None:
        """Put it there; the other text stands there once."""
        content, place = file.read_text(), self.before or self.after
        if not place:
            file.write_text(content + self.text)
            return
        assert content.count(place) == 1, f"{file.name} has {place!r} {content.count(place)} times"
        file.write_text(content.replace(place, self.text + place if self.before else place + self.text))


Toy = dict[str, str | list[Put] | None]
GENERATED = None

_CONTRACT = "devin_pipeline_tests/tables/test_tables.py"
_GENERATED: Toy = {"README.md": GENERATED, "docs/tables.md": GENERATED}


def _in_contract(*tables: str) -> list[Put]:
    lines = "".join(f"        {table},\n" for table in tables)
    return [Put(lines, before="    }\n\n\ndef test_no_two_tables_share_a_name")]


def _promised(table: str, before: str) -> Put:
    return Put(f"| `{table}` | Nothing else. | Its key. |\n", before=before)


def _announced(what: str) -> Put:
    return Put(f"\n- {what} is new.\n", after="## Unreleased\n")


DERIVED: Toy = {
    "devin_pipeline/tables/derived.py": [
        Put(
            """\
SESSION_TITLES = Table(
    name="session_titles",
    layer="derived",
    grain="One row per session with a title.",
    columns=(_DAY, _SESSION_ID, Column("title_characters", pa.int32(), "How long its title is.")),
    key=("day", "session_id"),
)

""",
            before="SESSION_TABLES = (",
        ),
        Put("    SESSION_TITLES,\n", after="    PROMPT_FEEDBACK,\n"),
        Put(
            """\
ACU_DAILY_BY_CATEGORY = Table(
    name="acu_daily_by_category",
    layer="derived",
    grain="One row per day, organization and category.",
    columns=(
        _DAY,
        Column("org_id", pa.string(), "Organization."),
        Column("category", pa.string(), "Use case."),
        Column("acus", ACUS, "ACUs to date; null when all are unknown."),
    ),
    key=("day", "org_id", "category"),
    inputs=("sessions",),
)

""",
            before="ROLLUP_TABLES = (",
        ),
        Put(", ACU_DAILY_BY_CATEGORY", after="ROLLUP_TABLES = (ACU_DAILY, ACU_DAILY_BY_TAG, ACU_DAILY_BY_REPOSITORY"),
    ],
    "devin_pipeline/derived/titles/session_titles.sql": """\
-- One row per session with a title.
select
    day,
    session_id,
    max(length(title))::integer as title_characters
from _parsed_versions
where title is not null
group by day, session_id
order by day, session_id
""",
    "devin_pipeline/derived/titles/acu_daily_by_category.sql": """\
-- One row per day, organization and category.
select
    day,
    org_id,
    category,
    sum(acus) as acus
from sessions
where day between $first_day and $last_day
group by day, org_id, category
order by day, org_id, category
""",
    "devin_pipeline_tests/derived/test_session_titles.py": '''\
"""Lengths of titles."""

from devin_pipeline.derived.queries import select
from devin_pipeline.lake import Connection
from devin_pipeline.tables import TABLES


def test_a_session_without_a_title_has_no_row() -> None:
    with Connection() as connection:
        connection.create_view("_parsed_versions", "select date '2026-01-01' as day, 'a' as session_id, null as title")
        assert select(connection, TABLES["session_titles"], []).num_rows == 0
''',
    _CONTRACT: _in_contract('("session_titles", "derived")', '("acu_daily_by_category", "derived")'),
    "CHANGELOG.md": [
        _promised("session_titles", before="| `acu_daily` |"),
        _promised("acu_daily_by_category", before="| `consumption_daily` |"),
        _announced("`session_titles`"),
    ],
    **_GENERATED,
}

REPORT: Toy = {
    "devin_pipeline/tables/reports.py": [
        Put(
            """\
ACUS_BY_ORGANIZATION = Table(
    name="acus_by_organization",
    layer="reports",
    grain="One row per organization.",
    columns=(Column("org_id", pa.string(), "Organization."), Column("acus", ACUS, "ACUs to date.")),
    key=("org_id",),
    partitioned_by=None,
    inputs=("acu_daily",),
)

""",
            before="REPORT_TABLES = (",
        ),
        Put("    ACUS_BY_ORGANIZATION,\n", after="    ACUS_PER_MERGED_PULL_REQUEST,\n"),
    ],
    "devin_pipeline/reports/organizations/acus_by_organization.sql": """\
-- One row per organization.
select
    org_id,
    sum(acus) as acus
from acu_daily
group by org_id
order by org_id
""",
    "devin_pipeline_tests/reports/test_acus_by_organization.py": '''\
"""ACUs of organizations."""

from devin_pipeline_tests.reports.test_reports import report


def test_nothing_is_no_organization() -> None:
    assert report("acus_by_organization") == []
''',
    _CONTRACT: _in_contract('("acus_by_organization", "reports")'),
    "CHANGELOG.md": [
        _promised("acus_by_organization", before="| `organizations`, `users`"),
        _announced("`acus_by_organization`"),
    ],
    **_GENERATED,
}

RAW: Toy = {
    "devin_pipeline/devin_api/endpoints.py": [
        Put(
            """
MEMBERS = Endpoint(
    name="members",
    key="v3",
    permission="ViewMembers",
    path="/v3/enterprise/members",
    organization_path=None,
)
""",
            before="\n\ndef lightest_feeds(",
        )
    ],
    "devin_pipeline/devin_api/client.py": [
        Put("import msgspec\n\n", before="from devin_pipeline.devin_api import pages\n"),
        Put("    MEMBERS,\n", after="    KEY_OWNER,\n"),
        Put(
            '''\
    def members(self, *, deadline_seconds: float = 60) -> list[bytes]:
        """Return every member, as JSON, in one attempt.

        Raises:
            DevinError: whatever went wrong, at once.
        """
        deadline = self._connections.deadline(deadline_seconds)
        body = self._connections.transport.get(self._request(MEMBERS), [], deadline).body
        return [bytes(each) for each in msgspec.json.decode(body, type=dict[str, list[msgspec.Raw]])["items"]]

''',
            before="    def _request(self, endpoint: Endpoint)",
        ),
    ],
    "devin_pipeline/tables/raw.py": [
        Put(
            """\
RAW_MEMBERS = RawTable(
    name="raw_members",
    layer="raw",
    grain="One row per version of a member, as returned by `GET /v3/enterprise/members`.",
    columns=(
        required("member_id", pa.string(), "Id of the person."),
        required("fetched_at", INSTANT, "When this version was first seen."),
        Column("content_hash", pa.string(), "SHA-256 of the canonical JSON; null on a tombstone."),
        required("is_listed", pa.bool_(), "False on a tombstone."),
        Column("payload", pa.string(), "The member's JSON as sent, unless `redacted`; null on a tombstone."),
        _REDACTED,
        _ROW_HASH,
    ),
    key=("member_id", "fetched_at"),
    partitioned_by=None,
    fields=PayloadFields(plain=frozenset({"id"}), users=("id",)),
    user_columns=("member_id",),
)

""",
            before="RAW_TABLES: tuple",
        ),
        Put(", RAW_MEMBERS", after="(*RAW_SESSION_TABLES, RAW_QUARANTINE"),
    ],
    "devin_pipeline/raw/members/__init__.py": '"""Members: who they are."""\n',
    "devin_pipeline/raw/members/assets.py": '''\
"""The asset of the members."""

import json
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

from devin_pipeline.devin_api import content_hash
from devin_pipeline.orchestration.asset_specs import table_asset
from devin_pipeline.orchestration.partitions import RANGES
from devin_pipeline.orchestration.resources import DevinApiResource, Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import report_table
from devin_pipeline.raw.versions import append_versions
from devin_pipeline.tables.raw import RAW_MEMBERS


def member_asset(erased: Erased) -> dg.AssetsDefinition:
    """The members as of now."""

    @table_asset(RAW_MEMBERS, backfill_policy=RANGES, pool="devin_api")
    def raw_members(context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource) -> None:
        opened, read_at = lake.open(), datetime.now(UTC)
        with erased(opened, lake.day_starts_at_utc_hour), devin_api.client() as client:
            members = [
                {"member_id": json.loads(each)["id"], "content_hash": content_hash(each), "payload": each.decode()}
                for each in client.members()
            ]
            opened.claim(lake.identity)
            items = pa.Table.from_pylist(members)
            commit = append_versions(opened, RAW_MEMBERS, items, read_at, keeps_text=lake.keeps_text)
        report_table(context, opened, RAW_MEMBERS, commit)

    return raw_members
''',
    "devin_pipeline/definitions.py": [
        Put(
            "from devin_pipeline.raw.members.assets import member_asset\n",
            before="from devin_pipeline.reports import report_assets, report_checks\n",
        ),
        Put("            member_asset(erased),\n", before="            *derived_assets("),
    ],
    "devin_pipeline/emulator/server.py": [
        Put(
            '        routes.append(Route("/v3/enterprise/members", self._members))\n',
            before="        for tail, feed in v2_feeds:\n",
        ),
        Put(
            """\
    async def _members(self, request: Request) -> Response:
        _require(self._keys.kind(request.headers), "v3")
        return JSONResponse({"items": [{"id": "user-1", "name": "Somebody"}, {"id": "user-2", "name": "Another"}]})

""",
            before="    async def _self(self",
        ),
    ],
    "devin_pipeline_tests/raw/members/__init__.py": '"""Members."""\n',
    "devin_pipeline_tests/raw/members/test_assets.py": '''\
"""Members, as the emulator returns them."""

from devin_pipeline.devin_api import DevinClient
from devin_pipeline.emulator import EmulatorServer, Enterprise


def test_every_member_is_returned() -> None:
    with (
        EmulatorServer(Enterprise.synthetic(seed=1, sessions=0, days=1)) as server,
        DevinClient(base_url=server.url, v3_key=server.v3_key) as client,
    ):
        assert len(client.members()) == 2
''',
    _CONTRACT: _in_contract('("raw_members", "raw")'),
    "CHANGELOG.md": [_promised("raw_members", before="| `raw_directory`"), _announced("`raw_members`")],
    **_GENERATED,
}

COMMAND: Toy = {
    "devin_pipeline/cli/toys.py": '''\
"""Counts toys."""

import click


@click.command()
@click.option("--many", is_flag=True, help="Count on.")
def toys(many: bool) -> None:
    """Count toys. There may be many."""
    click.echo("2" if many else "1")
''',
    "devin_pipeline_tests/cli/test_toys.py": '''\
"""Toys are counted."""

from click.testing import CliRunner

from devin_pipeline.cli import main


def test_there_are_several() -> None:
    assert CliRunner().invoke(main, ["toys", "--many"]).output == "2\\n"
''',
    "README.md": [Put("| `toys` | Counts toys. |\n", before="\nExit codes: ")],
    "docs/operations.md": [Put("| `toys` | Counts toys. |\n", before="\n`backfill` and `ui` print")],
    "CHANGELOG.md": [_announced("The command `toys`")],
}

SETTING: Toy = {
    "devin_pipeline/settings.py": [
        Put(
            '    DEVIN_TOY_DAYS: str = _setting("7", "days", "How long a toy stays.")\n',
            before="    DEVIN_PIPELINE_DEMO: str",
        ),
        Put(
            '''\
    @property
    def toy_days(self) -> int:
        """How long a toy stays.

        Raises:
            ConfigurationError: It is not a number of days.
        """
        text = self.DEVIN_TOY_DAYS
        if not (text.isascii() and text.isdigit()):
            raise ConfigurationError(f"DEVIN_TOY_DAYS is {text!r}", "that is not a number of days", "Set it to 7")
        return int(text)

''',
            before="    def key(self, variable: str)",
        ),
    ],
    "devin_pipeline/doctor/settings.py": [
        Put(
            '    yield look("toys", "", lambda: ("ok", f"kept for {settings.toy_days} days", ""))\n',
            before="\n\ndef _old_runs(",
        )
    ],
    "devin_pipeline_tests/test_settings.py": [
        Put(
            """

def test_a_toy_stays_for_whole_days() -> None:
    assert Settings(DEVIN_TOY_DAYS="9").toy_days == 9
    with pytest.raises(ConfigurationError, match="DEVIN_TOY_DAYS is 'x'"):
        _ = Settings(DEVIN_TOY_DAYS="x").toy_days
"""
        )
    ],
    "docs/configuration.md": GENERATED,
    ".env.example": GENERATED,
    "CHANGELOG.md": [_announced("The setting `DEVIN_TOY_DAYS`")],
}

TOYS = {
    "A derived table": DERIVED,
    "A report": REPORT,
    "A raw table and its endpoint": RAW,
    "A command": COMMAND,
    "A setting": SETTING,
}
"""By the heading of the recipe."""
