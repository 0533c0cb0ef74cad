"""Every guard of the code can be removed, and a test says that it notices."""

from collections import Counter
from pathlib import Path

import pytest

from devin_pipeline_tests.mutation.__main__ import PROJECT
from devin_pipeline_tests.mutation.markers import guards_of
from devin_pipeline_tests.mutation.noticing import noticing_tests

GUARDS = guards_of(PROJECT / "devin_pipeline")


def test_each_name_is_of_one_guard() -> None:
    assert [name for name, count in Counter(guard.name for guard in GUARDS).items() if count > 1] == []


def test_every_marked_guard_is_noticed_by_a_test_and_every_noticed_guard_is_marked() -> None:
    assert {guard.name for guard in GUARDS} == noticing_tests(PROJECT / "devin_pipeline_tests").keys()


def test_every_mutant_is_other_code_that_python_can_read() -> None:
    for guard in GUARDS:
        source = (PROJECT / "devin_pipeline" / guard.file).read_text()
        mutant = guard.mutant(source)
        assert mutant != source
        if guard.file.suffix == ".py":
            compile(mutant, guard.file, "exec")


SOURCE = '''
def paid(acus: float, rate: float) -> float:
    """Looks like one: # guard: nothing"""
    # Credits are not spend.
    # guard: a credit
    if acus < 0:
        return 0.0
    # guard: a rate below the least one, however it came about
    #   | max(rate, LEAST)
    #   -> rate
    amount = acus * max(rate, LEAST)
    # guard: a bill nobody sees
    print(amount)
    # guard: cents | , 2
    return round(amount, 2)
'''


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a credit", "if acus < 0:", "if False:"),
        ("a rate below the least one, however it came about", "* max(rate, LEAST)", "* rate"),
        ("a bill nobody sees", "    print(amount)", "    pass"),
        ("cents", "round(amount, 2)", "round(amount)"),
    ],
)
def test_a_guard_is_removed_where_it_is_marked(tmp_path: Path, name: str, old: str, new: str) -> None:
    (tmp_path / "bill.py").write_text(SOURCE)
    guard = next(guard for guard in guards_of(tmp_path) if guard.name == name)
    assert guard.mutant(SOURCE) == SOURCE.replace(old, new)
    assert len(guards_of(tmp_path)) == 4


def test_a_guard_of_sql_is_removed_where_it_is_marked(tmp_path: Path) -> None:
    query = "select acus\nfrom sessions\n-- guard: credits | acus >= 0 -> true\nwhere acus >= 0\n"
    (tmp_path / "spend.sql").write_text(query)
    (guard,) = guards_of(tmp_path)
    assert guard.mutant(query) == query.replace("where acus >= 0", "where true")


def test_a_marker_that_fits_nothing_below_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bill.py").write_text("# guard: cents | round(\ntotal = 1.234\n")
    (guard,) = guards_of(tmp_path)
    with pytest.raises(ValueError, match="is not below its marker"):
        guard.mutant((tmp_path / "bill.py").read_text())
