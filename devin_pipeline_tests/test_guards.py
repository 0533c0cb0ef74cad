"""Every guard can be removed, and the test that is to fail then exists."""

from pathlib import Path

from devin_pipeline_tests.guards import GUARDS

TESTS = Path(__file__).parent


def test_every_guard_stands_once_in_its_file() -> None:
    counts = {guard.name: guard.source(TESTS.parent).read_text().count(guard.text) for guard in GUARDS}
    assert counts == dict.fromkeys(counts, 1)


def test_every_test_of_a_guard_exists() -> None:
    named = [test.partition("::")[::2] for guard in GUARDS for test in guard.tests.split()]
    assert [
        (file, test)
        for file, test in named
        if not (TESTS / file).exists() or (test and f"def {test.partition('[')[0]}(" not in (TESTS / file).read_text())
    ] == []
