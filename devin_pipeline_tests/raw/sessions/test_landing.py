"""Landing: items as the API sends them in, versions, tombstones and quarantine on disk out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from devin_pipeline.devin_api import SessionBatch, Unreachable, Window, content_hash_as_spelled, read_item
from devin_pipeline.devin_api.pages import CursorPage, cursor_page
from devin_pipeline.devin_api.smaller_pages import unread_item
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Commit, Damaged, Lake, Rewrite
from devin_pipeline.raw.row_hash import row_hashes, with_row_hash
from devin_pipeline.raw.row_integrity import damaged_days
from devin_pipeline.raw.sessions.landing import LandingResult, land
from devin_pipeline.raw.sessions.moved_sessions import HeldSessions
from devin_pipeline.tables import RAW, RAW_QUARANTINE, TABLES, RawTable
from devin_pipeline_tests.tables.rows import DAY, NEXT_DAY, NOON, Row, acus, after

pytestmark = pytest.mark.notices(
    "a tombstone for what may be unread",
    "validation: a session twice",
    "validation: other days",
    "an older run over a newer one",
    "a tombstone for what is quarantined",
    "a person erased during a read",
    "a tombstone by an older run",
    "a session that comes back unchanged",
    "a clock that ran ahead",
    "order of versions after a clock that ran ahead",
    "one bad item many times",
    "damage: a changed raw row written again",
)

V3 = RAW["raw_sessions_v3"]
SECOND = int(NOON.timestamp())


def item(session_id: object = "a", /, **fields: object) -> str:
    return json.dumps({"session_id": session_id, "created_at": SECOND, "updated_at": SECOND} | fields)


def page_of(items: Sequence[str]) -> CursorPage:
    return cursor_page(f'{{"items": [{",".join(items)}]}}'.encode(), now=after(10_000))


@dataclass
class Feed:
    """One feed's table, and the reads that land in it."""

    lake: Lake
    table: str = "raw_sessions_v3"
    keeps_text: bool = True
    held: HeldSessions | None = None

    def read(self, *items: str, hours: float = 0, days: Sequence[date] = (DAY,)) -> LandingResult:
        """A whole read of `days` that begins so many hours after the noon of `DAY`."""
        listing = SessionBatch(items=page_of(items).items)
        return land(
            self.lake,
            RAW[self.table],
            listing,
            days,
            after(hours),
            8,
            keeps_text=self.keeps_text,
            held=self.held,
        )

    def rows(self) -> list[Row]:
        rows: list[Row] = self.lake.snapshot(TABLES[self.table]).rows().to_pylist()
        return rows

    def history(self, session_id: str = "a") -> list[tuple[float, object]]:
        """When each version was fetched, and its title; `gone` for a tombstone."""
        return [
            (
                (row["fetched_at"] - NOON) / timedelta(hours=1),
                json.loads(row["payload"]).get("title") if row["is_listed"] else "gone",
            )
            for row in self.rows()
            if row["session_id"] == session_id
        ]

    def quarantine(self) -> list[Row]:
        rows: list[Row] = self.lake.snapshot(RAW_QUARANTINE).rows().to_pylist()
        return rows


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    return Feed(Lake(str(tmp_path / "lake")))


def test_an_item_is_stored_as_sent_with_what_places_it(feed: Feed) -> None:
    sent = '{ "unknown":[1,2],  "session_id":"devin-a","acus_consumed":1.50,"title":"ü\\u0000","created_at":AT}'
    sent = sent.replace("AT", str(SECOND))
    landed = feed.read(sent, hours=1)
    (row,) = feed.rows()
    assert len(row.pop("content_hash")) == len(row.pop("row_hash")) == 64
    assert row == {
        "day": DAY,
        "session_id": "a",
        "created_at": NOON,
        "updated_at": None,
        "fetched_at": after(1),
        "is_listed": True,
        "acus": Decimal("1.500000"),
        "payload": sent,
        "redacted": None,
        "moved_to": None,
    }
    assert landed.figures(DAY) == {
        "items_read": 1,
        "placed": 1,
        "quarantined": 0,
        "acus": acus("1.5"),
        "new_versions": 1,
        "unlisted": 0,
    }


def test_first_versions_are_the_same_whether_or_not_others_are_known_of_their_day(feed: Feed, tmp_path: Path) -> None:
    sent = [item("c", acus_consumed=1.5), item("devin-a", title="ü"), item("b", updated_at=None, pull_requests=[])]
    alone = feed.read(*sent, hours=1)
    together = Feed(Lake(str(tmp_path / "together")))
    together.read(item("z"))
    landed = together.read(item("z"), *sent, hours=1)
    assert [row for row in together.rows() if row["session_id"] != "z"] == feed.rows()
    assert alone.new_versions == landed.new_versions == {DAY: 3}


def test_the_same_again_writes_nothing(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    version = feed.lake.snapshot(V3).version
    landed = feed.read(item("b"), item("a"), hours=1)
    assert feed.lake.snapshot(V3).version == version
    assert (landed.placed[DAY], landed.new_versions[DAY], landed.unlisted[DAY]) == (2, 0, 0)


SPELLINGS = (
    ('"2025-12-01T12:00:00Z"', '["a","b"]', "1.5"),
    ('"2025-12-01T12:00:00+00:00"', '["b","a"]', "1.50"),
    ('"2025-12-01T12:00:00.000Z"', '["a","b","a"]', "15e-1"),
    ('"2025-12-01T14:00:00.000000+02:00"', '["a","b"]', "1.500"),
)


def items_of_servers(spelling: int, count: int = 20, **changed: object) -> list[str]:
    """What one of several servers behind an address sends of sessions that do not change."""
    instant, tags, number = SPELLINGS[spelling]
    fields = f'"created_at": {instant}, "updated_at": {instant}, "tags": {tags}, "acus_consumed": {number}'
    more = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in changed.items())
    return [f'{{"session_id": "{n}", {fields}{more}}}' for n in range(count)]


@pytest.mark.notices("spelling: instants by value", "spelling: tags as a set")
def test_sessions_that_two_servers_spell_otherwise_gain_no_version(feed: Feed) -> None:
    for hours, spelling in enumerate([0, 1, 2, 3]):
        feed.read(*items_of_servers(spelling), hours=hours)
    assert len(feed.rows()) == 20
    assert [row["payload"] for row in feed.rows()] == sorted(items_of_servers(0))
    feed.read(*items_of_servers(1, title="new"), hours=5)
    assert len(feed.rows()) == 40
    assert damaged_days(feed.lake.snapshot(V3), [DAY], 8) == {}


def with_hashes_of_before(feed: Feed, table: RawTable = V3) -> None:
    """Store the hashes that an older version of the code gave the same rows."""
    rows = feed.lake.snapshot(table).rows().to_pylist()
    of_before = [row | {"content_hash": content_hash_as_spelled(row["payload"].encode())} for row in rows]
    assert of_before != rows
    feed.lake.rewrite(
        table, lambda _: Rewrite([DAY], with_row_hash(table, pa.Table.from_pylist(of_before, table.schema)))
    )


@pytest.mark.notices(
    "spelling: versions that a lake of before has, in another", "spelling: hashes of before, taken for damage"
)
@pytest.mark.parametrize("then", range(len(SPELLINGS)))
def test_a_lake_of_before_gains_no_version_from_the_new_rule_in_any_spelling(feed: Feed, then: int) -> None:
    feed.read(*items_of_servers(1))
    with_hashes_of_before(feed)
    before = feed.rows()
    assert damaged_days(feed.lake.snapshot(V3), [DAY], 8) == {}
    landed = feed.read(*items_of_servers(then), hours=1)
    assert feed.rows() == before
    assert (landed.new_versions[DAY], landed.unlisted[DAY]) == (0, 0)
    feed.read(*items_of_servers(then, title="new"), hours=2)
    assert len(feed.rows()) == 40
    assert feed.rows()[::2] == before


@pytest.mark.notices("spelling: versions that a lake of before has, in its spelling")
def test_a_redacted_version_of_before_gains_none_either(feed: Feed) -> None:
    feed.keeps_text = False
    feed.read(*items_of_servers(1, title="secret"))
    payloads = {item.session_id: item.payload for item in page_of(items_of_servers(1, title="secret")).items}
    rows = [row | {"content_hash": content_hash_as_spelled(payloads[row["session_id"]])} for row in feed.rows()]
    feed.lake.rewrite(V3, lambda _: Rewrite([DAY], with_row_hash(V3, pa.Table.from_pylist(rows, V3.schema))))
    assert feed.read(*items_of_servers(1, title="secret"), hours=1).new_versions[DAY] == 0
    feed.keeps_text = True
    assert feed.read(*items_of_servers(1, title="secret"), hours=2).new_versions[DAY] == 0
    assert [row["payload"] for row in feed.rows()] == sorted(items_of_servers(1, title="secret"))
    assert damaged_days(feed.lake.snapshot(V3), [DAY], 8) == {}


def test_an_item_in_the_quarantine_of_before_is_not_quarantined_again(feed: Feed) -> None:
    unplaced = [item.replace("15e-1", "-1").replace("1.50", "-1") for item in items_of_servers(1, 1)]
    feed.read(*unplaced)
    with_hashes_of_before(feed, RAW_QUARANTINE)
    feed.read(*unplaced, hours=1)
    assert len(feed.quarantine()) == 1
    assert damaged_days(feed.lake.snapshot(RAW_QUARANTINE), [DAY], 8) == {}


def test_a_change_and_its_undoing_are_three_versions(feed: Feed) -> None:
    for hours, title in enumerate(["A", "A", "B", "B", "A"]):
        feed.read(item(title=title), hours=hours)
    assert feed.history() == [(0, "A"), (2, "B"), (4, "A")]
    hashes = [row["content_hash"] for row in feed.rows()]
    assert hashes[0] == hashes[2] != hashes[1]


def test_only_the_session_that_changed_gets_a_version(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    landed = feed.read(item("a", title="new"), item("b"), hours=1)
    assert [(row["session_id"], row["fetched_at"]) for row in feed.rows()] == [
        ("a", NOON),
        ("a", after(1)),
        ("b", NOON),
    ]
    assert landed.new_versions == {DAY: 1}


def test_a_missing_session_gets_one_tombstone_that_keeps_its_instants(feed: Feed) -> None:
    feed.read(item("a", title="A", acus_consumed=3, updated_at=SECOND + 60), item("b"))
    landed = feed.read(item("b"), hours=1)
    feed.read(item("b"), hours=2)
    last = [row for row in feed.rows() if row["session_id"] == "a"][-1]
    assert len(last.pop("row_hash")) == 64
    assert last == {
        "day": DAY,
        "session_id": "a",
        "created_at": NOON,
        "updated_at": NOON + timedelta(minutes=1),
        "fetched_at": after(1),
        "content_hash": None,
        "is_listed": False,
        "acus": None,
        "payload": None,
        "redacted": None,
        "moved_to": None,
    }
    assert feed.history() == [(0, "A"), (1, "gone")]
    assert landed.figures(DAY) | {"acus": None} == {
        "items_read": 1,
        "placed": 1,
        "quarantined": 0,
        "acus": None,
        "new_versions": 0,
        "unlisted": 1,
    }


def test_a_session_that_comes_back_unchanged_is_a_new_version(feed: Feed) -> None:
    feed.read(item(title="A"))
    feed.read(hours=1)
    feed.read(item(title="A"), hours=2)
    feed.read(hours=3)
    assert feed.history() == [(0, "A"), (1, "gone"), (2, "A"), (3, "gone")]


def test_a_day_that_was_not_read_buries_nobody(feed: Feed) -> None:
    feed.read(item("a"), item("b", created_at=SECOND + 86400), days=[DAY, NEXT_DAY])
    landed = feed.read(hours=1, days=[NEXT_DAY])
    assert [(row["session_id"], row["is_listed"]) for row in feed.rows()] == [("a", True), ("b", True), ("b", False)]
    assert landed.unlisted == {NEXT_DAY: 1}


def test_feeds_do_not_bury_each_others_sessions(feed: Feed) -> None:
    feed.read(item("a"))
    Feed(feed.lake, "raw_session_insights_v3").read(item("b"), hours=1)
    assert feed.history("a") == [(0, None)]


def test_a_quarantined_item_with_a_usable_id_keeps_its_session_listed(feed: Feed) -> None:
    feed.read(item("a"), item("b"), item("c"))
    feed.read(item("a", acus_consumed=-1), item("b", created_at=None), hours=1)
    listed = [(row["session_id"], row["is_listed"]) for row in feed.rows()]
    assert listed == [("a", True), ("b", True), ("c", True), ("c", False)]


def test_a_quarantined_item_without_an_id_keeps_nobody_listed(feed: Feed) -> None:
    feed.read(item("a"))
    feed.read(item(""), hours=1)
    assert feed.history() == [(0, None), (1, "gone")]


def test_while_an_item_of_a_day_is_unread_nothing_of_that_day_counts_as_no_longer_listed(feed: Feed) -> None:
    tomorrow = SECOND + 86400
    feed.read(item("a"), item("b"), item("c", created_at=tomorrow), days=[DAY, NEXT_DAY])
    why = Unreachable("it could not be read", "Devin answered 500 each time", "Run again")
    unread = unread_item("sessions_v3", Window(NOON, after(24)), 7, why)
    for hours in (1, 2):
        listing = SessionBatch(items=[unread, read_item(item("b", title="new").encode(), after(9))])
        landed = land(feed.lake, V3, listing, [DAY, NEXT_DAY], after(hours), 8)
        assert landed.figures(DAY) == {
            "items_read": 2,
            "placed": 1,
            "quarantined": 1,
            "acus": 0,
            "new_versions": 2 - hours,
            "unlisted": 0,
        }
    assert (feed.history("a"), feed.history("c")) == ([(0, None)], [(0, None), (1, "gone")])
    (row,) = feed.quarantine()
    assert (row["day"], row["feed"], row["payload"]) == (DAY, V3.name, "")
    assert row["reason"].startswith("sessions_v3, created 2025-12-01T12:00:00Z to 2025-12-02T12:00:00Z, position 7: ")
    assert "as Devin answered 500 each time" in row["reason"]
    place = row["reason"].partition(": ")[0]
    assert row["content_hash"] == hashlib.sha256(place.encode()).hexdigest()
    assert damaged_days(feed.lake.snapshot(RAW_QUARANTINE), [DAY], 8) == {}
    feed.read(item("b", title="new"), hours=3)
    assert feed.history("a") == [(0, None), (3, "gone")]
    assert feed.quarantine() == [row]


def test_an_unread_item_holds_no_text_to_blank(feed: Feed) -> None:
    why = Unreachable("it could not be read", "Devin answered 500 each time", "Run again")
    listing = SessionBatch(items=[unread_item("sessions_v3", Window(NOON, after(24)), 7, why)])
    land(feed.lake, V3, listing, [DAY], after(0), 8, keeps_text=False)
    land(feed.lake, V3, listing, [DAY], after(1), 8, keeps_text=False)
    assert [(row["payload"], row["redacted"]) for row in feed.quarantine()] == [("", None)]


def test_an_item_written_otherwise_is_not_a_new_version(feed: Feed) -> None:
    sent = item(title="ü", acus_consumed=1.5, tags=["x"])
    feed.read(sent)
    reordered = json.dumps(dict(reversed(json.loads(sent).items())), indent=1, ensure_ascii=False)
    assert feed.read(reordered.replace("1.5", "1.50"), hours=1).new_versions == {}
    assert [row["payload"] for row in feed.rows()] == [sent]


def test_a_field_more_is_a_new_version(feed: Feed) -> None:
    feed.read(item())
    feed.read(item(title=None), hours=1)
    feed.read(item(title=None, tags=[]), hours=2)
    assert len(feed.rows()) == 3


def test_an_absurd_number_in_one_item_does_not_cost_its_neighbours(feed: Feed) -> None:
    absurd = item("a", structured_output="NUMBER").replace('"NUMBER"', "1e1000000")
    assert feed.read(absurd, item("b")).placed == {DAY: 2}


def test_a_read_older_than_the_stored_version_adds_nothing(feed: Feed) -> None:
    feed.read(item(title="newer"), hours=5)
    feed.read(item(title="older"), hours=4)
    feed.read(hours=4)
    feed.read(item(title="same instant"), hours=5)
    assert feed.history() == [(5, "newer")]


def test_a_read_older_than_a_tombstone_does_not_restore_the_session(feed: Feed) -> None:
    feed.read(item(title="A"), hours=1)
    feed.read(hours=5)
    feed.read(item(title="B"), hours=4)
    assert feed.history() == [(1, "A"), (5, "gone")]


def test_what_is_read_after_a_clock_that_ran_ahead_was_set_right_is_newer_all_the_same(feed: Feed) -> None:
    in_our_future = 24 * 365 * 20
    feed.read(item(title="A"), hours=in_our_future)
    for hours, items in enumerate([[item(title="B")], [item(title="B")], [], [item(title="A")]]):
        feed.read(*items, hours=hours)
    assert [title for _, title in feed.history()] == ["A", "B", "gone", "A"]


def test_ids_that_differ_in_case_or_form_only_are_sessions_of_their_own(feed: Feed) -> None:
    ids = ["a", "A", "é", "e\u0301", "ａ"]  # noqa: RUF001 - a letter that only looks like another
    landed = feed.read(*map(item, ids))
    assert landed.placed == {DAY: len(ids)}
    assert {row["session_id"] for row in feed.rows()} == set(ids)


def test_what_cannot_be_accepted_is_kept_once_per_feed_day_and_content(feed: Feed) -> None:
    bad = item("a", acus_consumed=-1)
    landed = feed.read(bad, item(""), item("b"))
    assert landed.figures(DAY) | {"acus": 0} == {
        "items_read": 3,
        "placed": 1,
        "quarantined": 2,
        "acus": 0,
        "new_versions": 1,
        "unlisted": 0,
    }
    again = feed.read(bad, item(""), item("b"), hours=1)
    assert again.quarantined == {DAY: 2}
    Feed(feed.lake, "raw_session_insights_v3").read(bad, hours=2)
    feed.read(item("a", acus_consumed=-2), item("b"), hours=3)
    kept = [(row["feed"], row["fetched_at"], row["payload"]) for row in feed.quarantine()]
    assert sorted(kept) == sorted(
        [
            ("raw_sessions_v3", NOON, bad),
            ("raw_sessions_v3", NOON, item("")),
            ("raw_session_insights_v3", after(2), bad),
            ("raw_sessions_v3", after(3), item("a", acus_consumed=-2)),
        ]
    )


def test_acus_that_are_negative_only_beyond_six_places_are_zero_and_quarantine_nothing(feed: Feed) -> None:
    landed = feed.read(item("a", acus_consumed=-4.44e-16), item("b", acus_consumed=3))
    assert (landed.placed, landed.quarantined) == ({DAY: 2}, {})
    assert [str(row["acus"]) for row in feed.rows()] == ["0.000000", "3.000000"]


def test_the_same_bad_item_twice_in_one_read_is_one_row(feed: Feed) -> None:
    landed = feed.read(item(""), item(""))
    assert len(feed.quarantine()) == 1
    assert landed.quarantined == landed.items_read == {DAY: 2}


def test_a_quarantined_items_day_is_that_of_its_creation_else_the_first_asked_for(feed: Feed) -> None:
    tomorrow = SECOND + 86400
    feed.read(item("late", created_at=tomorrow, acus_consumed="x"), item("when", created_at="?"), days=[DAY, NEXT_DAY])
    quarantined = {json.loads(row["payload"])["session_id"]: (row["day"], row["reason"]) for row in feed.quarantine()}
    assert quarantined == {
        "late": (NEXT_DAY, "acus_consumed is not a number"),
        "when": (DAY, "created_at is not usable"),
    }


def test_a_session_twice_in_one_read_fails_validation(feed: Feed) -> None:
    with pytest.raises(ValidationFailed, match="two are of one session"):
        feed.read(item("a"), item("devin-a", title="again"), item(""))
    assert feed.rows() == []
    assert feed.quarantine() == []


def test_an_item_outside_the_days_read_fails_validation(feed: Feed) -> None:
    start, end = SECOND - 4 * 3600, SECOND + 20 * 3600
    for outside in (start - 1, end):
        with pytest.raises(ValidationFailed, match=r"not asked for: 2025-1[12]-\d\d\. "):
            feed.read(item("a"), item("b", created_at=outside))
    assert feed.rows() == []
    assert feed.read(item("first", created_at=start), item("last", created_at=end - 1)).placed == {DAY: 2}


def test_figures_of_a_range_are_reported_per_day(feed: Feed) -> None:
    tomorrow = SECOND + 86400
    landed = feed.read(
        item("a", acus_consumed=1.25),
        item("b", acus_consumed=2),
        item("c", acus_consumed=None),
        item("d", created_at=tomorrow),
        days=[DAY, NEXT_DAY],
    )
    assert landed.placed == {DAY: 3, NEXT_DAY: 1}
    assert landed.acus == {DAY: acus("3.25"), NEXT_DAY: 0}
    assert landed.figures(NEXT_DAY)["items_read"] == 1


@pytest.mark.notices("text under DEVIN_TEXT=none")
def test_without_text_a_version_keeps_what_places_it_and_the_hash_of_what_was_sent(feed: Feed) -> None:
    feed.read(item("a", title="Secret", acus_consumed=2), item("q", title="Secret", acus_consumed=-1))
    as_sent = {row["session_id"]: row for row in feed.rows()} | {"q": feed.quarantine()[0]}
    blank = Feed(Lake(feed.lake.uri + "_blank"), keeps_text=False)
    blank.read(item("a", title="Secret", acus_consumed=2), item("q", title="Secret", acus_consumed=-1))
    (row,), (quarantined,) = blank.rows(), blank.quarantine()
    for stored, sent in ((row, as_sent["a"]), (quarantined, as_sent["q"])):
        assert json.loads(stored["payload"])["title"] == "xxxxxx"
        assert stored["redacted"] == "text"
        changed = {"payload", "redacted", "row_hash"}
        assert {name for name in stored if stored[name] != sent[name]} == changed


def test_switching_the_text_off_and_on_makes_no_version(feed: Feed) -> None:
    feed.read(item(title="Old"), hours=0)
    feed.read(item(title="New"), hours=1)
    sent = feed.rows()
    feed.keeps_text = False
    landed = feed.read(item(title="New"), hours=2)
    assert landed.new_versions[DAY] == 0
    assert feed.history() == [(0, "xxx"), (1, "xxx")]
    version = feed.lake.snapshot(V3).version
    feed.read(item(title="New"), hours=3)
    assert feed.lake.snapshot(V3).version == version

    # The API still returns the last version, so its text comes back; the one before it is gone for good.
    feed.keeps_text = True
    feed.read(item(title="New"), hours=4)
    assert feed.history() == [(0, "xxx"), (1, "New")]
    assert feed.rows()[1] == sent[1]
    version = feed.lake.snapshot(V3).version
    feed.read(item(title="New"), hours=5)
    assert feed.lake.snapshot(V3).version == version


def test_an_erased_session_stays_erased_and_its_changes_are_versions_still(feed: Feed) -> None:
    feed.lake.add_to_erasure_list([("session", "a")])
    for hours, acus_consumed in enumerate((1, 1, 2)):
        feed.read(item("devin-a", title="Secret", user_id="jo", acus_consumed=acus_consumed), hours=hours)
    pseudonym = feed.lake.erasure_list().pseudonym("session", "a")
    assert [(row["session_id"], row["acus"]) for row in feed.rows()] == [(pseudonym, 1), (pseudonym, 2)]
    assert not any("Secret" in row["payload"] or "jo" in row["payload"] for row in feed.rows())
    version = feed.lake.snapshot(V3).version
    feed.keeps_text = False
    feed.read(item("devin-a", title="Secret", user_id="jo", acus_consumed=2), hours=3)
    feed.keeps_text = True
    feed.read(item("devin-a", title="Secret", user_id="jo", acus_consumed=2), hours=4)
    assert feed.lake.snapshot(V3).version == version
    feed.read(hours=5)
    assert feed.rows()[-1]["session_id"] == pseudonym
    assert feed.rows()[-1]["is_listed"] is False


def test_a_person_erased_while_a_read_lands_is_erased_in_it(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite = Lake.rewrite

    def and_meanwhile(lake: Lake, *args: object, repairs: bool = False) -> Commit:
        commit = rewrite(lake, *args, repairs=repairs)  # type: ignore[arg-type]
        lake.add_to_erasure_list([("user", "jo")])
        return commit

    monkeypatch.setattr(Lake, "rewrite", and_meanwhile)
    feed.read(item("a", title="Secret", user_id="jo"), item("b", title="Kept", user_id="jim"))
    assert [json.loads(row["payload"])["title"] for row in feed.rows()] == ["xxxxxx", "Kept"]


def row_hash(table: RawTable, row: Row) -> str:
    [hash_] = row_hashes(table, pa.Table.from_pylist([row], table.schema))
    return hash_


def as_hashed(value: object) -> bytes:
    if value is None:
        return b"-"
    if isinstance(value, datetime):
        value = (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    text = str(value).encode()
    return b"%d:%b" % (len(text), text)


@pytest.mark.parametrize("value", ["0", "0.000001", "-0.000001", "10", "123456789012.000001"])
@pytest.mark.parametrize("text", [None, "", "a", "é\U0001f600"])
def test_a_row_is_hashed_as_earlier_versions_did(text: str | None, value: str) -> None:
    row: Row = {
        "day": DAY,
        "session_id": "a",
        "created_at": NOON,
        "updated_at": None,
        "fetched_at": NOON + timedelta(microseconds=1),
        "content_hash": text,
        "is_listed": text is None,
        "acus": acus(value),
        "payload": text,
        "redacted": None,
    }
    expected = hashlib.sha256(b"".join(as_hashed(row[name]) for name in V3.column_names if name in row)).hexdigest()
    assert row_hash(V3, row) == expected


def test_the_hash_of_a_row_shows_any_change_of_it(feed: Feed) -> None:
    feed.read(item("a", title="A"), item("q", acus_consumed=-1))
    for table, row in ((V3, feed.rows()[0]), (RAW_QUARANTINE, feed.quarantine()[0])):
        assert row["row_hash"] == row_hash(table, row)
        others = {
            "day": NEXT_DAY,
            "created_at": after(1),
            "updated_at": None,
            "fetched_at": NOON + timedelta(microseconds=1),
            "is_listed": False,
            "acus": Decimal("0.000001"),
            "moved_to": NEXT_DAY,
        }
        for name in table.column_names:
            if name != "row_hash":
                assert row_hash(table, row | {name: others.get(name, "other")}) != row["row_hash"], name


def test_a_stored_row_that_changed_is_not_written_again(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    changed = [row | {"acus": acus("9")} for row in feed.rows()]
    feed.lake.replace_days(V3, [DAY], pa.Table.from_pylist(changed, V3.schema))
    files = feed.lake.snapshot(V3).files()
    feed.read(item("a"), item("b"), hours=1)
    with pytest.raises(Damaged, match="verify"):
        feed.read(item("a", title="new"), item("b"), hours=2)
    assert feed.lake.snapshot(V3).files() == files


def test_a_row_from_before_row_hash_gets_one_when_its_day_is_written_again(feed: Feed) -> None:
    feed.read(item("a"), item("b"))
    without_hash = [row | {"row_hash": None} for row in feed.rows()]
    feed.lake.replace_days(V3, [DAY], pa.Table.from_pylist(without_hash, V3.schema))
    feed.read(item("a", title="new"), item("b"), hours=1)
    assert [row["row_hash"] for row in feed.rows()] == [row_hash(V3, row) for row in feed.rows()]
