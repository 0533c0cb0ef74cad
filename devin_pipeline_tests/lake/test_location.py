"""Where a lake may be: a path is taken as it is, or refused before anything else is done."""

import multiprocessing
import os
import sys
from pathlib import Path

import duckdb
import pytest

from devin_pipeline.lake import Lake, LakeIdentity, UnusableLocation, write_catalog
from devin_pipeline.tables import TABLES
from devin_pipeline_tests.tables.rows import DAY, rows_of

pytestmark = pytest.mark.notices("a path that a library takes for another")

SESSIONS = TABLES["sessions"]
IDENTITY = LakeIdentity("live", "api.devin.ai", "enterprise", 8)
REFUSED = {*map(chr, range(1, 0x20)), *"%*?[\\]^|", "\x7f"}
ACCEPTED = [character for character in map(chr, range(1, 0x80)) if character not in REFUSED | {"/"}]
# At the start, in the middle and at the end of a folder's name.
NAMES = "{0}a", "a{0}a", "a{0}"


def write_and_read(lake: Lake) -> None:
    """All that a run and a reader do with a lake."""
    lake.require_identity(IDENTITY)
    lake.require_writable()
    lake.claim(IDENTITY)
    for session_id in ("a", "b"):
        lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": session_id}]))
    assert lake.identity == IDENTITY
    assert lake.snapshot(SESSIONS).rows().column("session_id").to_pylist() == ["b"]
    assert lake.query("select session_id from sessions").to_pylist() == [{"session_id": "b"}]
    made = write_catalog(lake)
    assert made is not None
    assert made.left_out == []
    with duckdb.connect() as database:
        file = str(made.file).replace("'", "''")
        database.execute(f"attach '{file}' as devin (read_only)")
        assert database.sql("select session_id from devin.sessions").fetchall() == [("b",)]
    lake.add_to_erasure_list([("user", "u")])
    assert lake.erasure_list()
    lake.purge(SESSIONS)


@pytest.mark.parametrize("characters", [ACCEPTED[n : n + 6] for n in range(0, len(ACCEPTED), 6)], ids="".join)
def test_every_character_that_is_not_refused_is_taken_as_it_is(tmp_path: Path, characters: list[str]) -> None:
    names = [name.format(character) for character in characters for name in NAMES]
    folder = tmp_path.joinpath(*names)
    write_and_read(Lake(str(folder / "lake")))
    assert {path.name for path in (folder / "lake").iterdir()} >= {"lake.json", "sessions", "devin.duckdb"}
    assert [path.name for path in tmp_path.iterdir()] == names[:1]


@pytest.mark.parametrize("name", ["größe", "😀", "日本", "\x85", "org_id=finance"])
def test_names_of_any_language_are_taken_as_they_are(tmp_path: Path, name: str) -> None:
    write_and_read(Lake(str(tmp_path / name)))
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("character", sorted(REFUSED), ids=ascii)
def test_every_other_character_is_refused_wherever_it_is(character: str, name: str) -> None:
    for folder in ("", "/lakes/"):
        with pytest.raises(UnusableLocation) as refused:
            Lake(folder + name.format(character))
        assert str(refused.value).isprintable()
        assert "Set DEVIN_LAKE" in refused.value.todo


@pytest.mark.parametrize("character", ["%41", "^", "?", "[", "|", "\\", "\n", "\x7f"], ids=ascii)
def test_a_character_is_refused_because_a_library_does_not_take_it(tmp_path: Path, character: str) -> None:
    # In a process of its own: Rust writes of its panic to stderr itself.
    process = _forks.Process(target=_write_unchecked, args=(str(tmp_path / f"a{character}a"),))
    process.start()
    process.join()
    assert process.exitcode == REFUSED_BY_LIBRARY


REFUSED_BY_LIBRARY = 3
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["devin_pipeline_tests.runs"])


def _write_unchecked(uri: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    lake = Lake.__new__(Lake)
    lake.uri = uri
    try:
        write_and_read(lake)
    except BaseException:
        sys.exit(REFUSED_BY_LIBRARY)


def test_a_pattern_would_match_other_folders() -> None:
    with pytest.raises(UnusableLocation):
        Lake("/lakes/*")


@pytest.mark.parametrize("uri", ["~nobody.has.this.name/lake", "la\udcffke"], ids=ascii)
def test_a_path_that_names_no_folder_is_refused(uri: str) -> None:
    with pytest.raises(UnusableLocation) as refused:
        Lake(uri)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("character", [*' "#%<>?[\\]^`{|}*', "ü"])
def test_an_address_has_only_what_addresses_may_have(character: str) -> None:
    for address in ("s3://bucket/a{}b", "file:///lakes/a{}b"):
        with pytest.raises(UnusableLocation):
            Lake(address.format(character))


def test_an_address_of_a_folder_is_the_folder_and_a_name_with_a_colon_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(f"file://{tmp_path}/a-b_c.d~e!$&'()+,;:@f/lake")
    lake.claim(IDENTITY)
    lake.replace_days(SESSIONS, [DAY], rows_of(SESSIONS, [{"session_id": "a"}]))
    assert lake.snapshot(SESSIONS).rows().num_rows == 1
    monkeypatch.chdir(tmp_path)
    assert Lake("ab:c").uri == str(tmp_path / "ab:c")
