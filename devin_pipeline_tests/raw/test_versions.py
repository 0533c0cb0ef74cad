"""Versions and tombstones of any raw table: what a read returned in, history on disk out."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Barrier, Thread

import pyarrow as pa
import pytest

from devin_pipeline.devin_api import content_hash
from devin_pipeline.errors import ValidationFailed
from devin_pipeline.lake import Lake
from devin_pipeline.raw.row_integrity import damaged_partitions
from devin_pipeline.raw.versions import append_versions
from devin_pipeline.tables import RAW_TABLES, RawTable
from devin_pipeline.tables.raw import DIRECTORY_FIELDS, SESSION_FIELDS
from devin_pipeline_tests.tables.rows import acus, after
from devin_pipeline_tests.tables.toys import LEDGER, ROSTER, TOYS, plant

Object = dict[str, object]


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    plant(monkeypatch, *TOYS)
    return Lake(str(tmp_path / "lake"))


def members(*objects: Object, kind: str = "people") -> pa.Table:
    """What a list of a roster returned."""
    rows = [{"kind": kind, "object_id": each["id"], **_content(ROSTER, each)} for each in objects]
    return _items(ROSTER, rows)


def entries(*objects: Object, asked_acus: str = "1") -> pa.Table:
    """What a ledger returned, asked when so many ACUs were known."""
    rows = [{"entry_id": each["id"], "asked_acus": acus(asked_acus), **_content(LEDGER, each)} for each in objects]
    return _items(LEDGER, rows)


def _content(table: RawTable, sent: Object) -> Object:
    payload = json.dumps(sent)
    return {table.payload: payload, "content_hash": content_hash(payload.encode())}


def _items(table: RawTable, rows: Sequence[Object]) -> pa.Table:
    added = ("fetched_at", "is_listed", "redacted", "row_hash")
    return pa.Table.from_pylist(rows, pa.schema([field for field in table.schema if field.name not in added]))


def kinds(*names: str) -> pa.Table:
    return pa.table({"kind": pa.array(names, pa.string())})


def history(lake: Lake, table: RawTable) -> list[tuple[object, ...]]:
    """Each object's id, when its version was fetched, and what it says; `gone` for a tombstone."""
    rows = lake.snapshot(table).rows().to_pylist()
    return [
        (row[table.object_key[-1]], (row["fetched_at"] - after(0)).seconds // 3600, _name_or_gone(row, table))
        for row in rows
    ]


def _name_or_gone(row: Object, table: RawTable) -> object:
    return json.loads(str(row[table.payload])).get("name") if row["is_listed"] else "gone"


def is_intact(lake: Lake, table: RawTable) -> bool:
    snapshot = lake.snapshot(table)
    return not damaged_partitions(snapshot, {file.partition for file in snapshot.stored_files()}, 8)


def test_what_changed_and_what_comes_back_are_versions_and_what_a_whole_read_misses_is_a_tombstone(lake: Lake) -> None:
    reads: Iterable[Sequence[Object]] = (
        [{"id": "p1", "name": "A"}, {"id": "p2", "name": "B"}],
        [{"name": "A", "id": "p1"}, {"id": "p2", "name": "C"}],
        [{"id": "p2", "name": "B"}],
        [{"id": "p1", "name": "A"}, {"id": "p2", "name": "B"}],
    )
    for hours, objects in enumerate(reads):
        append_versions(lake, ROSTER, members(*objects), after(hours), read_whole=kinds("people"))
    assert history(lake, ROSTER) == [
        ("p1", 0, "A"),
        ("p1", 2, "gone"),
        ("p1", 3, "A"),
        ("p2", 0, "B"),
        ("p2", 1, "C"),
        ("p2", 2, "B"),
    ]
    assert is_intact(lake, ROSTER)
    version = lake.snapshot(ROSTER).version
    assert append_versions(lake, ROSTER, members(*objects), after(9), read_whole=kinds("people")).version is None
    assert lake.snapshot(ROSTER).version == version


def test_only_what_was_read_whole_gets_tombstones_and_other_partitions_are_not_written(lake: Lake) -> None:
    append_versions(lake, ROSTER, members({"id": "p1", "name": "A"}), after(0))
    append_versions(lake, ROSTER, members({"id": "t1", "name": "T"}, kind="teams"), after(0))
    (people,) = lake.snapshot(ROSTER).files(["people"])
    append_versions(lake, ROSTER, members(kind="teams"), after(1), read_whole=kinds("teams"))
    assert history(lake, ROSTER) == [("p1", 0, "A"), ("t1", 0, "T"), ("t1", 1, "gone")]
    assert lake.snapshot(ROSTER).files(["people"]) == [people]
    # A list that could not be read whole buries nobody.
    append_versions(lake, ROSTER, members(), after(2))
    assert len(history(lake, ROSTER)) == 3


def test_a_table_in_one_part_has_versions_by_whatever_it_compares(lake: Lake) -> None:
    sent: Object = {"id": "e1", "amount": 1}
    for hours, asked in enumerate(["1", "1", "2"]):
        append_versions(lake, LEDGER, entries(sent, asked_acus=asked), after(hours))
    assert [(row["asked_acus"], row["fetched_at"]) for row in lake.snapshot(LEDGER).rows().to_pylist()] == [
        (1, after(0)),
        (2, after(2)),
    ]
    append_versions(lake, LEDGER, entries(), after(3), read_whole=pa.table({"entry_id": ["e1"]}))
    assert history(lake, LEDGER)[-1] == ("e1", 3, "gone")
    assert is_intact(lake, LEDGER)


def test_an_object_that_was_returned_twice_is_refused(lake: Lake) -> None:
    with pytest.raises(ValidationFailed, match="twice"):
        append_versions(lake, ROSTER, members({"id": "p1"}, {"id": "p1", "name": "A"}), after(0))
    assert lake.snapshot(ROSTER).version is None


def test_an_older_read_that_ends_later_wins_over_nothing(lake: Lake) -> None:
    append_versions(lake, ROSTER, members({"id": "p1", "name": "new"}), after(1), read_whole=kinds("people"))
    append_versions(lake, ROSTER, members({"id": "p1", "name": "old"}), after(0), read_whole=kinds("people"))
    append_versions(lake, ROSTER, members(), after(0), read_whole=kinds("people"))
    assert history(lake, ROSTER) == [("p1", 1, "new")]


@pytest.mark.notices("two first writers of a table in one part")
@pytest.mark.parametrize("table", TOYS, ids=lambda table: table.name)
def test_several_writers_at_once_lose_nothing_of_each_other(lake: Lake, table: RawTable) -> None:
    ready = Barrier(3)

    def write(name: str) -> None:
        ready.wait()
        items = members if table is ROSTER else entries
        append_versions(Lake(lake.uri), table, items({"id": name, "name": name}), after(0))

    for round_ in range(4):
        writers = [Thread(target=write, args=(f"{round_}{name}",)) for name in "abc"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
    assert [row[0] for row in history(lake, table)] == [f"{round_}{name}" for round_ in range(4) for name in "abc"]
    assert len(lake.snapshot(table).files()) == 1


@pytest.mark.parametrize("erased", ["p1", "jo@example.com"])
def test_an_erased_person_is_stored_under_a_pseudonym_whichever_name_was_given(lake: Lake, erased: str) -> None:
    jo: Object = {"id": "p1", "email": "jo@example.com", "name": "Jo", "seats": 3}
    other: Object = {"id": "p2", "email": "bo@example.com", "name": "Bo", "seats": 1}
    pseudonym = lake.add_to_erasure_list([("user", erased)]).pseudonym("user", erased)
    for hours in range(2):
        append_versions(lake, ROSTER, members(jo, other), after(hours), read_whole=kinds("people"))
    rows = {row["object_id"]: row for row in lake.snapshot(ROSTER).rows().to_pylist()}
    assert rows.keys() == {pseudonym, "p2"}
    assert json.loads(rows["p2"]["item"]) == other
    assert json.loads(rows[pseudonym]["item"]) == {"id": pseudonym, "email": pseudonym, "name": "xx", "seats": 3}
    assert (rows[pseudonym]["redacted"], rows["p2"]["redacted"]) == ("text", None)

    append_versions(lake, ROSTER, members(jo | {"seats": 4}, other), after(2), read_whole=kinds("people"))
    append_versions(lake, ROSTER, members(other), after(3), read_whole=kinds("people"))
    assert [(row[0], row[1]) for row in history(lake, ROSTER) if row[0] == pseudonym] == [
        (pseudonym, h) for h in (0, 2, 3)
    ]
    assert is_intact(lake, ROSTER)


def test_a_row_whose_key_names_an_erased_person_loses_its_text_whatever_it_says_itself(lake: Lake) -> None:
    lake.add_to_erasure_list([("user", "p1")])
    silent = members({"id": "p1"}).set_column(3, "item", pa.array(['{"seats": 2, "note": "of Jo"}'], pa.string()))
    append_versions(lake, ROSTER, silent, after(0))
    assert [json.loads(row["item"]) for row in lake.snapshot(ROSTER).rows().to_pylist()] == [
        {"seats": 2, "note": "xxxxx"}
    ]


def test_text_goes_under_devin_text_none_and_comes_back_without_a_version(lake: Lake) -> None:
    sent: Object = {"id": "e1", "amount": 3, "owner": "jo", "note": "canary"}
    append_versions(lake, LEDGER, entries(sent), after(0))
    (as_sent,) = lake.snapshot(LEDGER).rows().to_pylist()
    append_versions(lake, LEDGER, entries(sent), after(1), keeps_text=False)
    (blanked,) = lake.snapshot(LEDGER).rows().to_pylist()
    assert json.loads(blanked["payload"]) == sent | {"note": "xxxxxx"}
    append_versions(lake, LEDGER, entries(sent), after(2))
    assert lake.snapshot(LEDGER).rows().to_pylist() == [as_sent]


@pytest.mark.notices("an id in the name of a folder")
def test_a_table_cannot_be_partitioned_by_who_may_have_to_be_erased() -> None:
    with pytest.raises(ValueError, match="cannot be partitioned by object_id"):
        dataclasses.replace(ROSTER, partitioned_by="object_id")


def test_a_partition_that_is_not_a_name_of_a_folder_is_refused(lake: Lake) -> None:
    with pytest.raises(ValueError, match="cannot have a partition"):
        append_versions(lake, ROSTER, members({"id": "p1"}, kind="a/b"), after(0))


def test_every_text_of_a_raw_row_is_declared_as_text_or_identity_or_known_to_be_neither() -> None:
    neither = {"content_hash", "redacted", "row_hash", "feed", "reason", "kind", "scope"}
    for table in RAW_TABLES:
        texts = {column.name for column in table.columns if column.type == pa.string()}
        assert texts <= {table.payload, *table.user_columns, *table.session_columns} | neither
        for fields in (table.fields,) if table.fields else (SESSION_FIELDS, *DIRECTORY_FIELDS.values()):
            # An e-mail is both.
            assert set(fields.identity) - {"email"} <= fields.plain
