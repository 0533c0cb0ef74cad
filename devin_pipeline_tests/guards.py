"""Shows that the suite can fail: removes each guard in turn, in a copy of the project, and names the test that fails.

    uv run python -m devin_pipeline_tests.guards [PART OF A NAME …]

prints one row per guard and exits 1 when the suite passes without one. Tests of the guards stay where they belong.
"""

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_PROJECT = Path(__file__).parent.parent
_COPIED = ("devin_pipeline", "devin_pipeline_tests", "pyproject.toml", "dagster.yaml", "workspace.yaml", "README.md")
_AT_ONCE = 2
_SECONDS = 300


@dataclass(frozen=True)
class Guard:
    """One guard: what it is, how to remove it, and where a test must fail then.

    Attributes:
        name: What it guards against.
        file: Below `devin_pipeline`.
        text: The guard, found exactly once in that file.
        without: What stands there when it is removed.
        tests: Below `devin_pipeline_tests`.
    """

    name: str
    file: str
    text: str
    without: str
    tests: str

    def source(self, project: Path) -> Path:
        """The guard's file in a project."""
        return project / "devin_pipeline" / self.file


_VERIFY = "test_verification.py::test_"
_CLIENT, _PAGING, _LANDING = "devin_api/test_client.py", "devin_api/test_paging.py", "raw/test_landing.py"
_SPLITTING, _SMALLER = "devin_api/test_splitting.py", "devin_api/test_smaller.py"

GUARDS = (
    # A session is on one day
    Guard(
        "the day a session left",
        "raw/landing.py",
        "added, pairs = with_moves(snapshot, added, days, read_at, hour)",
        'added, pairs = added.drop_columns(["is_new"]), Pairs()',
        "raw/test_moved_sessions.py::test_a_read_of_the_new_day_alone_ends_the_old_one",
    ),
    Guard(
        "a session that two runs land on two days at once",
        "raw/landing.py",
        "commit.version > planned_from + 1",
        "False",
        "raw/test_moved_sessions.py::test_two_runs_that_land_a_session_on_two_days_at_once_leave_it_on_one",
    ),
    Guard(
        "a newer read of the day a session seems to have left",
        "raw/moves.sql",
        "where is_listed and fetched_at between $read_at and $now",
        "where false",
        "raw/test_moved_sessions.py::test_a_later_read_of_the_old_day_wins_over_an_earlier_one_of_the_new_day",
    ),
    Guard(
        "a damaged day that a session left",
        "raw/moved_sessions.py",
        "damaged = damaged_days(snapshot, left, hour) if left else {}",
        "damaged: dict[date, str] = {}",
        "raw/test_moved_sessions.py::test_a_damaged_day_does_not_hold_back_the_day_a_session_moved_to",
    ),
    Guard(
        "the day that lost a session is built again",
        "derived/publishing.py",
        "    if not linked:\n        return made\n",
        "    return made\n",
        "test_one_day.py::test_a_run_over_the_new_day_alone_ends_the_old_one_and_builds_it_again",
    ),
    Guard(
        "feeds that disagree about the day",
        "derived/publishing.py",
        "        lake.note_links(_pairs(lake, looked_for))\n",
        "        pass\n",
        "test_one_day.py::test_a_change_in_either_feed_reaches_the_day_that_counts",
    ),
    Guard(
        "days that a session is on in the lake",
        "schedules.py",
        "days = held.get(str(item.session_id), set()) | (",
        "days: set[date] = set() | (",
        "dagster_ui/test_requests.py::test_a_session_that_moved_has_the_day_asked_for",
    ),
    # What has not changed
    Guard(
        "files that are no longer what was made",
        "lake/made_of.py",
        "all(_digest(by_name[n]) == d for n, d in entry.files.items())",
        "True",
        "test_unchanged.py::test_a_day_whose_file_is_no_longer_what_was_made_is_made_again",
    ),
    Guard(
        "inputs other than those it was made of",
        "lake/made_of.py",
        "if entry is None or entry.inputs != digest or",
        "if entry is None or",
        "test_unchanged.py::test_after_one_changed_session_only_its_day_is_written",
    ),
    Guard(
        "queries other than those it was made by",
        "lake/made_of.py",
        "entry.inputs != digest or entry.code != code",
        "entry.inputs != digest",
        "test_unchanged.py::test_everything_is_made_again_when_queries_or_settings_change_or_days_are_invalidated",
    ),
    Guard(
        "a report over days of two versions of the code",
        "reports/publishing.py",
        'if days := days_of_other_code(lake, [each for each in inputs if each.layer == "derived"]):',
        "if days := []:",
        "test_rebuild.py",
    ),
    Guard(
        "a table of one version that another one writes to",
        "lake/lake.py",
        'elif built_by not in ("", code):',
        "elif False:",
        "test_rebuild.py::test_days_of_two_versions_of_the_code_are_told_apart_in_both_directions",
    ),
    Guard(
        "a day whose files are not those that this code built",
        "lake/made_of.py",
        " and entry.files.keys() == set(map(_name, stored))",
        "",
        "test_rebuild.py",
    ),
    Guard(
        "a path of the lake that looks like columns",
        "lake/reader.py",
        'file.path.count("=") == 1 and ',
        "",
        "test_lake_paths.py",
    ),
    Guard(
        "a file of views in another place than it was written for",
        "lake/catalog.py",
        "= 0 then true else error",
        ">= 0 then true else error",
        "lake/test_catalog.py",
    ),
    Guard(
        "two processes that make Dagster's databases at once",
        "dagster_home.py",
        "            fcntl.flock(lock, fcntl.LOCK_EX)\n",
        "            lock.flush()\n",
        "test_dagster_home.py::test_a_process_waits_while_another_one_makes_the_databases_of_the_home",
    ),
    Guard(
        "a lake that two claim in the same moment",
        "lake/atomic.py",
        "partial(_link, filesystem) if is_local else filesystem.move",
        "filesystem.move",
        "lake/test_identity.py",
    ),
    Guard(
        "an enterprise of which no organization is known",
        "raw/account.py",
        "if self._new and not self._found_known:",
        "if False:",
        "raw/test_account.py",
    ),
    Guard(
        "an enterprise that shares an organization with ours",
        "raw/account.py",
        "missing >= _LARGEST_SHARE_MISSING * len(listed)",
        "False",
        "raw/test_account.py",
    ),
    Guard(
        "updates before the sensor's first look",
        "schedules.py",
        "elif older.last_read:",
        "elif False:",
        "test_freshness.py",
    ),
    Guard(
        "a day that the schedule left unread",
        "freshness.py",
        "if at < left < now - _TIME_TO_READ:",
        "if False:",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "a requested run that did not read its day",
        "schedules.py",
        "overdue = {date.fromisoformat(day) for day in awaited} | older.left_unread",
        "overdue = set(older.left_unread)",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "days of unknown age",
        "freshness.py",
        "older.of_unknown_age |= stored - known.keys()",
        "",
        "test_freshness.py",
    ),
    Guard(
        "files that another run joins meanwhile",
        "lake/last_reads.py",
        "            if listed == _files(uri):\n                break\n",
        "            if listed:\n                break\n        break\n",
        "lake/test_last_reads.py",
    ),
    Guard(
        "a log that has moved on",
        "lake/lake.py",
        "if opened is not None and _entry(location, opened.version) == opened.entry:",
        "if opened is not None:",
        "lake/test_lake.py",
    ),
    Guard(
        "another writer between plan and commit",
        "lake/lake.py",
        "            if snapshot.version != planned_from.version:\n                continue\n",
        "",
        "lake/test_lake.py",
    ),
    # Paging
    Guard(
        "sessions just where a range was cut",
        "devin_api/client.py",
        "(0 if days[-1].end in self._ends else reading.at_end)",
        "0",
        _PAGING,
    ),
    Guard("a cursor that repeats", "devin_api/paging.py", "if page.end_cursor in seen:", "if False:", _PAGING),
    Guard("empty pages for ever", "devin_api/paging.py", "if empty > EMPTY_PAGES_IN_A_ROW:", "if False:", _PAGING),
    Guard("a missing cursor", "devin_api/paging.py", "if not page.end_cursor:", "if False:", _PAGING),
    Guard("v2 total unlike what came", "devin_api/paging.py", "if distinct != first.total:", "if False:", _PAGING),
    Guard(
        "v3 total unlike what came",
        "devin_api/paging.py",
        "if stated is None or stated == sieve.distinct:",
        "if True:",
        _PAGING,
    ),
    Guard(
        "an offset that is ignored",
        "devin_api/paging.py",
        "if [page.skip for page in pages] != [0, *offsets]:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "sessions that move between pages behind an unchanged total",
        "devin_api/paging.py",
        "if {_name(item) for item in page.items[:overlap]} - {_name(item) for item in before.items}:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a filter that is ignored",
        "devin_api/paging.py",
        "if strays > read * STRAYS_TOLERATED:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a session at the window's end",
        "devin_api/paging.py",
        "start <= item.created_at < end]",
        "start <= item.created_at <= end]",
        _PAGING,
    ),
    Guard("more pages than the limit", "devin_api/paging.py", "if pages >= limits.pages:", "if False:", _PAGING),
    Guard(
        "the older of two tellings",
        "devin_api/paging.py",
        "return (item.updated_at or EARLIEST) >= (known.updated_at or EARLIEST)",
        "return True",
        _PAGING,
    ),
    Guard(
        "pages that contradict the first",
        "devin_api/paging.py",
        "if any(page.total != first.total or page.limit != first.limit for page in pages):",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a last page that says more follow",
        "devin_api/paging.py",
        "if pages[-1].has_more:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "more sessions than the limit", "devin_api/paging.py", "if len(kept) > self._limits.rows:", "if False:", _PAGING
    ),
    Guard(
        "more in a v2 window than the limit",
        "devin_api/paging.py",
        "if first.total > limits.rows or len(offsets) >= limits.pages:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "a whole history read before the filter is missed",
        "devin_api/paging.py",
        "if self._read >= PAGE_SIZE / 2:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "days that overlap", "devin_api/paging.py", "if runs and day.start < runs[-1][-1].end:", "if False:", _PAGING
    ),
    Guard(
        "a server that is down, asked once a day of a year",
        "devin_api/client.py",
        "or unreachable_in_a_row > self._client._concurrency",
        "",
        _CLIENT,
    ),
    Guard(
        "a feed that leads nowhere, asked once a day",
        "devin_api/client.py",
        "or without_progress >= _WINDOWS_WITHOUT_PROGRESS",
        "",
        _PAGING,
    ),
    Guard(
        "windows side by side counted as in a row",
        "devin_api/client.py",
        "elif known_then[days] == without_progress:",
        "else:",
        _PAGING,
    ),
    Guard(
        "windows asked for at once though the last one led nowhere",
        "devin_api/client.py",
        "(1, 1) if without_progress else (least, most)",
        "(least, most)",
        _PAGING,
    ),
    Guard(
        "updates under a filter that is ignored",
        "devin_api/client.py",
        "if stale > len(kept) * STRAYS_TOLERATED:",
        "if False:",
        _CLIENT,
    ),
    Guard(
        "updates whose pages moved",
        "devin_api/client.py",
        "complete = steady and not more and total in (None, len(kept))",
        "complete = True",
        _CLIENT,
    ),
    Guard(
        "a session told in two windows",
        "devin_api/paging.py",
        "known = newest.get(item.session_id)",
        "known = None",
        _PAGING,
    ),
    Guard(
        "a day of which the parts tell less than it states",
        "devin_api/client.py",
        "if has_strays or len(whole.items) + whole.outside < (of_day.stated or 0):",
        "if has_strays:",
        _SPLITTING,
    ),
    Guard(
        "a day split though it states more than may be read",
        "devin_api/client.py",
        "if first.total is not None and (first.total > limits.rows or pages > limits.pages):",
        "if False:",
        _SPLITTING,
    ),
    Guard(
        "sessions that a part tells and another holds",
        "devin_api/client.py",
        "if has_strays or len(whole.items) + whole.outside < (of_day.stated or 0):",
        "if len(whole.items) + whole.outside < (of_day.stated or 0):",
        _SPLITTING,
    ),
    Guard(
        "sessions on a bound within a day",
        "devin_api/client.py",
        "Window(window.start - _ONE_SECOND, window.end)",
        "window",
        _SPLITTING,
    ),
    Guard(
        "other days given up for the parts of one",
        "devin_api/client.py",
        "if days[0] not in self._day_of_part:\n                            unreachable",
        "if True:\n                            unreachable",
        _SPLITTING,
    ),
    Guard(
        "a request for every second of a day of bursts",
        "devin_api/client.py",
        "(of_day and len(of_day.parts) + len(of_day.readings) > 2 * _PARTS_OF_A_DAY)",
        "False",
        _SPLITTING,
    ),
    Guard(
        "parts of a day that is read along one chain by now",
        "devin_api/client.py",
        "if self._day_of_part.get(days[0]) == day and future.cancel():",
        "if False:",
        _SPLITTING,
    ),
    Guard(
        "a day split again after its parts could not be read",
        "devin_api/client.py",
        "if window in self._unsplit or ",
        "if ",
        _SPLITTING,
    ),
    Guard(
        "parts of many days, all of them held",
        "devin_api/client.py",
        "        heappush(to_read, days)",
        "        to_read.insert(0, days)",
        _SPLITTING,
    ),
    Guard(
        "parts of a day that was given up",
        "devin_api/client.py",
        "elif self._split.pop(day, None) is not None:",
        "elif day in self._split:",
        _SPLITTING,
    ),
    Guard(
        "the hours ahead of a day that has begun",
        "devin_api/paging.py",
        "newest = max(instants) if",
        "newest = window.end if",
        _SPLITTING,
    ),
    # Smaller pages
    Guard(
        "smaller pages of a server that is down",
        "devin_api/client.py",
        "if self._is_down:",
        "if False:",
        _SMALLER,
    ),
    Guard(
        "each item asked for of a server that went down",
        "devin_api/client.py",
        "if in_a_row <= _FAILURES_IN_A_ROW and ",
        "if ",
        _SMALLER,
    ),
    Guard(
        "smaller pages where a pause is asked for",
        "devin_api/client.py",
        "return error.wait_seconds is None and ",
        "return ",
        _SMALLER,
    ),
    Guard(
        "smaller pages of several days",
        "devin_api/client.py",
        "        if len(days) > 1:\n            return self._offset_page(",
        "        if False:\n            return self._offset_page(",
        _SMALLER,
    ),
    Guard(
        "pieces of a page that contradict one another",
        "devin_api/smaller.py",
        "if at in self._items] if self._fits else []",
        "if at in self._items]",
        _SMALLER,
    ),
    Guard(
        "what lies at the end of a narrower window",
        "devin_api/smaller.py",
        "min(part.end + _ONE_SECOND, window.end)",
        "part.end",
        _SMALLER,
    ),
    Guard(
        "narrower windows that hold less than their day states",
        "devin_api/client.py",
        "if not unread and missing > 0:",
        "if False:",
        _SMALLER,
    ),
    Guard(
        "unread items behind one of their second",
        "devin_api/client.py",
        "for position in range(1, missing - len(unread) + 1)",
        "for position in range(1, 1)",
        _SMALLER,
    ),
    Guard(
        "a tombstone for what may be unread",
        "raw/new_versions.sql",
        "or (quarantined.payload = '' and quarantined.day = latest.day)",
        "",
        _LANDING,
    ),
    Guard("sessions of deleted organizations", "devin_api/client.py", '("include_deleted_orgs", "true"),', "", _PAGING),
    Guard(
        "how far our clock is ahead",
        "devin_api/client.py",
        "self._client.clock_ahead = now - answer.answered_at",
        "self._client.clock_ahead = None",
        _CLIENT,
    ),
    # Retries
    Guard("409 asked for too often", "devin_api/retry.py", "409: 2,", "409: MORE_TRIES,", _CLIENT),
    Guard("429 given up at once", "devin_api/retry.py", "429: MORE_TRIES,", "", "devin_api"),
    Guard(
        "401 asked for again", "devin_api/retry.py", "408: MORE_TRIES,", "408: MORE_TRIES, 401: MORE_TRIES,", _CLIENT
    ),
    Guard(
        "Retry-After not waited for",
        "devin_api/retry.py",
        "return error.wait_seconds",
        "return 0.0",
        "devin_api/test_retry.py",
    ),
    Guard(
        "Retry-After of years",
        "devin_api/wire.py",
        "if wait is not None and wait > LONGEST_RETRY_AFTER_SECONDS:",
        "if False:",
        "devin_api",
    ),
    Guard(
        "Retry-After below a second",
        "devin_api/retry.py",
        "return max(float(text), SHORTEST_RETRY_AFTER_SECONDS)",
        "return float(text)",
        "devin_api/test_retry.py",
    ),
    Guard(
        "Retry-After by our own clock",
        "devin_api/retry.py",
        "(http_date(date) or now)",
        "now",
        "devin_api/test_retry.py",
    ),
    Guard(
        "a pause one thread was asked for, for the others",
        "devin_api/retry.py",
        "self._keep_quiet(deadline, called_off)",
        "pass",
        "devin_api/test_retry.py",
    ),
    Guard(
        "a wait beyond the deadline",
        "devin_api/retry.py",
        "if wait >= deadline.remaining():\n                    error.is_out_of_time",
        "if False:\n                    error.is_out_of_time",
        "devin_api/test_retry.py",
    ),
    Guard(
        "more tries by mixing kinds of failure",
        "devin_api/retry.py",
        "or tries > more_tries:",
        "or False:",
        "devin_api/test_retry.py",
    ),
    # The body of an answer
    Guard("a gzip bomb", "devin_api/wire.py", "if size > LARGEST_BODY:", "if False:", "devin_api"),
    Guard("gzip that ends early", "devin_api/wire.py", "unfold.require_end()", "pass", "devin_api"),
    Guard(
        "padding behind a gzip body", "devin_api/wire.py", "if not raw.startswith(_GZIP_MAGIC):", "if False:", _CLIENT
    ),
    Guard("a redirect", "devin_api/wire.py", "follow_redirects=False", "follow_redirects=True", "devin_api"),
    Guard(
        "an id or amount said twice",
        "devin_api/payloads.py",
        'item = msgspec.structs.replace(item, acus=None, unplaced_because=f"{key} is said twice")',
        "pass",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an amount said twice beside an item without one",
        "devin_api/payloads.py",
        "if said > sum(keys for _, keys in read):",
        "if said > 2 * len(read):",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "a key said twice, once with an escaped letter",
        "devin_api/payloads.py",
        r'rf"(?:{letter}|\\u00(?i:{letter.encode().hex()}))"',
        "letter",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "a number beyond any as an id",
        "devin_api/payloads.py",
        "_NOT_TEXT = (Endless, _Constant)",
        "_NOT_TEXT = (_Constant,)",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "ACUs as floats",
        "devin_api/payloads.py",
        "exact = Decimal(text)",
        "exact = Decimal(float(text))",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "negative ACUs",
        "devin_api/payloads.py",
        "if acus < 0:",
        "if False:",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "ACUs judged before they are rounded",
        "devin_api/payloads.py",
        "exact if exact.copy_abs() >= MOST_ACUS else exact.quantize(_SIX_PLACES, context=_EXACT)",
        "exact",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "the requests in flight",
        "devin_api/retry.py",
        "with self._slots:",
        "if True:",
        "devin_api/test_retry.py",
    ),
    Guard("headers or a body that never end", "devin_api/wire.py", "self._thread.start()", "pass", _CLIENT),
    Guard(
        "a body that looks whole because we cut it",
        "devin_api/wire.py",
        "if line.is_cut:\n            raise",
        "if False:\n            raise",
        _CLIENT,
    ),
    Guard(
        "a proxy before loopback",
        "devin_api/wire.py",
        "trust_env = not is_plain",
        "trust_env = True",
        "devin_api/test_tls.py",
    ),
    # What the system refuses to read
    Guard(
        "repair that loses what only cannot be read now",
        "salvaging.py",
        "            # It may be intact, and what is left out here is lost.\n            raise",
        "            continue",
        "lake/test_refused_reads.py",
    ),
    Guard(
        "removing a log that only cannot be read now",
        "verification.py",
        "            # What heals a damaged log would cost one that is intact.\n            raise",
        "            return",
        "lake/test_refused_reads.py",
    ),
    Guard(
        "a table on a volume that is not mounted",
        "lake/lake.py",
        "if Path(location).is_symlink():",
        "if False:",
        "lake/test_refused_reads.py",
    ),
    Guard(
        "a link in place of lake.json",
        "lake/identity.py",
        " and not Path(file).is_symlink()",
        "",
        "lake/test_refused_reads.py",
    ),
    Guard(
        "a file opened in place of a closed stdout",
        "cli/endings.py",
        "            os.open(os.devnull, mode)",
        "            pass",
        "test_cli.py::test_what_is_opened_while_stdout_is_closed_is_not_printed_into",
    ),
    Guard(
        "a certificate that does not hold",
        "devin_api/surroundings.py",
        "httpx.create_ssl_context()",
        "httpx.create_ssl_context(verify=False)",
        "devin_api/test_tls.py",
    ),
    Guard(
        "a proxy that httpx takes and no socket does",
        "devin_api/surroundings.py",
        'host.encode("idna")',
        "pass",
        "devin_api/test_surroundings.py",
    ),
    Guard(
        "a SOCKS proxy that never answers",
        "devin_api/wire.py",
        'event.endswith(".connect_tcp.complete")',
        'event == "connection.connect_tcp.complete"',
        "devin_api/test_surroundings.py",
    ),
    Guard(
        "a proxy of the environment that cannot be used, before any work",
        "resources.py",
        "    check_surroundings(api_url())\n",
        "",
        "test_cli.py",
    ),
    Guard(
        "a certificate that does not hold, asked again",
        "devin_api/wire.py",
        "if _is_about_certificates(error):",
        "if False:",
        "devin_api/test_tls.py",
    ),
    Guard(
        "compression nobody asked for",
        "devin_api/wire.py",
        'raise _damaged(question, "it is compressed',
        'unfold = None and (question, "it is compressed',
        _CLIENT,
    ),
    Guard(
        "an instant read by the host's zone",
        "devin_api/payloads.py",
        "at = datetime.fromtimestamp(float(value), UTC)",
        "at = datetime.fromtimestamp(float(value)).replace(tzinfo=UTC)",
        "chaos/test_time_zones.py",
    ),
    Guard(
        "a date that is no instant",
        "devin_api/payloads.py",
        "if _ISO_INSTANT.fullmatch(value) is None:",
        "if False:",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an instant before there was Devin or of the future",
        "devin_api/payloads.py",
        "return at if EARLIEST <= at <= latest else None",
        "return at",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "absurdly many ACUs",
        "devin_api/payloads.py",
        "if acus >= MOST_ACUS:",
        "if False:",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "ACUs that are no number",
        "devin_api/payloads.py",
        "if _JSON_NUMBER.fullmatch(text) is None:",
        "if False:",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "ACUs rounded half to even",
        "devin_api/payloads.py",
        "Context(prec=40, rounding=ROUND_HALF_UP)",
        "Context(prec=40)",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an id of any length",
        "devin_api/payloads.py",
        " or len(session_id) > LONGEST_ID",
        "",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an id with space around it",
        "devin_api/payloads.py",
        " or session_id != session_id.strip()",
        "",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an id with control characters",
        "devin_api/payloads.py",
        'unicodedata.category(character) in ("Cc", "Cs")',
        "False",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "one session under two ids",
        "devin_api/payloads.py",
        'value.removeprefix("devin-")',
        "value",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "text of another encoding",
        "devin_api/payloads.py",
        "    _require_utf8(body)\n    latest",
        "    latest",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "bytes that only look like UTF-8",
        "devin_api/payloads.py",
        "_as_column(body).validate(full=True)",
        "_as_column(body).validate()",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "the size of a listing",
        "devin_api/client.py",
        "if taken and items > _ITEMS_OF_A_LISTING:",
        "if False:",
        _PAGING,
    ),
    Guard(
        "the order of rows in a file",
        "lake/lake.py",
        "else rows.take(order)",
        "else rows",
        "lake/test_lake.py",
    ),
    Guard(
        "days that were not asked for, left out",
        "lake/lake.py",
        "else rows.filter(wanted)",
        "else rows",
        "lake/test_lake.py",
    ),
    Guard(
        "absurd nesting and numbers",
        "devin_api/payloads.py",
        "except (RecursionError, ValueError) as error:",
        "except ZeroDivisionError as error:",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "an answer without items",
        "devin_api/payloads.py",
        "class _CursorEnvelope(msgspec.Struct):\n    items: list[msgspec.Raw]",
        "class _CursorEnvelope(msgspec.Struct):\n    items: list[msgspec.Raw] = []",
        "devin_api/test_payloads.py",
    ),
    # Keys
    Guard(
        "a key of the wrong kind",
        "devin_api/keys.py",
        "if _SHAPES[kind].fullmatch(key):",
        "if True:",
        "devin_api/test_keys.py",
    ),
    Guard("a key in a repr", "devin_api/keys.py", 'return "<secret>"', "return self._value", "devin_api"),
    Guard(
        "a key over plain http",
        "devin_api/keys.py",
        'if parts.scheme == "http" and not is_loopback(parts.hostname):',
        "if False:",
        "devin_api/test_keys.py",
    ),
    Guard(
        "users in httpx's log",
        "devin_api/wire.py",
        "logging.getLogger(name).addFilter(_is_a_warning)",
        "pass",
        "devin_api",
    ),
    Guard(
        "a host that only looks like loopback",
        "devin_api/keys.py",
        'if host == "localhost":',
        'if "localhost" in host or "127.0.0.1" in host:',
        "devin_api/test_keys.py",
    ),
    Guard(
        "white space around a key",
        "devin_api/keys.py",
        "key = value.strip()\n    if _SHAPES",
        "key = value\n    if _SHAPES",
        "devin_api/test_keys.py",
    ),
    Guard(
        "an organization that is a path",
        "devin_api/keys.py",
        "if _ORGANIZATION.fullmatch(organization) and ",
        "if ",
        "devin_api/test_keys.py",
    ),
    Guard("a key in a pickle", "devin_api/keys.py", "def __reduce__", "def reduced", "devin_api/test_keys.py"),
    Guard(
        "a key typed into the page",
        "resources.py",
        'v3_key: str | None = Field(default=None, json_schema_extra={"dagster__is_secret": True})',
        "v3_key: str | None = None",
        "test_resources.py",
    ),
    Guard("a bad key in a traceback", "devin_api/keys.py", "    del value, key\n", "", _CLIENT),
    Guard("a bad key in the client's frame", "devin_api/client.py", "        del v2_key, v3_key\n", "", _CLIENT),
    # Prompts
    Guard(
        "pages in a traceback",
        "devin_api/errors.py",
        "return self.with_traceback(None)",
        "return self",
        _CLIENT,
    ),
    Guard(
        "a payload in a repr",
        "devin_api/payloads.py",
        'return f"<Item {self.session_id!r}, {len(self.payload)} bytes>"',
        "return repr(self.payload)",
        "devin_api/test_payloads.py",
    ),
    Guard(
        "what an error's body says",
        "devin_api/wire.py",
        "{what.group() if what else ''}",
        "{detail['msg']}",
        _CLIENT,
    ),
    # Landing
    Guard(
        "the gate: a session twice",
        "raw/landing.py",
        '!= items.num_rows:\n        raise GateClosed("A session',
        '< 0:\n        raise GateClosed("A session',
        _LANDING,
    ),
    Guard(
        "the gate: other days", "raw/landing.py", "- set(days):", "- set(items.column('day').to_pylist()):", _LANDING
    ),
    Guard(
        "the order of keys in the content hash",
        "devin_api/canonical.py",
        'order="sorted"',
        "order=None",
        "devin_api/test_canonical.py",
    ),
    Guard(
        "an older run over a newer one",
        "raw/new_versions.sql",
        "fetched_at between $read_at and $now as is_newer",
        "fetched_at between $read_at and $now and false as is_newer",
        _LANDING,
    ),
    Guard(
        "a tombstone for what is quarantined",
        "raw/new_versions.sql",
        "quarantined.session_id = latest.session_id",
        "where false",
        _LANDING,
    ),
    Guard("text under DEVIN_TEXT=none", "raw/redaction.py", "return not self.keeps_text or", "return", "raw"),
    Guard(
        "who is forgotten during a read",
        "raw/landing.py",
        "if lake.forgotten() != redaction.forgotten:",
        "if False:",
        _LANDING,
    ),
    Guard(
        "a tombstone by an older run",
        "raw/new_versions.sql",
        "latest.is_listed\n    and not latest.is_newer",
        "latest.is_listed",
        _LANDING,
    ),
    Guard(
        "a session that comes back unchanged",
        "raw/new_versions.sql",
        "(not latest.is_listed or latest.content_hash <> items.content_hash)",
        "latest.content_hash <> items.content_hash",
        _LANDING,
    ),
    Guard(
        "a clock that ran ahead",
        "raw/new_versions.sql",
        "fetched_at between $read_at and $now as is_newer",
        "fetched_at >= $read_at and $now is not null as is_newer",
        _LANDING,
    ),
    Guard(
        "order of versions after a clock that ran ahead",
        "raw/new_versions.sql",
        "greatest($read_at::timestamptz, fetched_at + interval 1 microsecond)",
        "$read_at::timestamptz",
        _LANDING,
    ),
    Guard(
        "one bad item many times",
        "raw/unknown_items.sql",
        "and known.content_hash = quarantine.content_hash",
        "and false",
        _LANDING,
    ),
    Guard(
        "numbers in the content hash, by value",
        "devin_api/canonical.py",
        "_DECODER = msgspec.json.Decoder(float_hook=number)",
        "_DECODER = msgspec.json.Decoder()",
        "devin_api/test_canonical.py",
    ),
    Guard(
        "text of absurd depth under DEVIN_TEXT=none",
        "raw/redaction.py",
        "except RecursionError:",
        "except ZeroDivisionError:",
        "raw/test_redaction.py",
    ),
    Guard(
        "a day that could not be read, taken for an empty one",
        "raw/assets.py",
        "read_whole = [windows[window] for window in listing.days if window not in listing.failures]",
        "read_whole = [windows[window] for window in listing.days]",
        "test_cli.py::test_a_day_the_api_cannot_tell_costs_the_others_nothing",
    ),
    Guard(
        "prompts in a log",
        "raw/assets.py",
        "                    waiting.append(listing)",
        "                    context.log.info(str([item.payload for item in listing.items]))\n"
        "                    waiting.append(listing)",
        "test_pipeline.py::test_texts_of_any_kind_and_size_are_stored_as_sent_and_told_in_no_event_or_log",
    ),
    # The lake
    Guard(
        "two writers of one day",
        "lake/lake.py",
        "        delta = snapshot.delta\n",
        "        delta = snapshot.delta and DeltaTable(snapshot.location)\n",
        "lake/test_lake.py",
    ),
    Guard(
        "two writers of one report",
        "lake/lake.py",
        "if self._overwrite(snapshot, rows, None) == expected:",
        "if self._overwrite(snapshot, rows, None):",
        "lake/test_lake.py",
    ),
    Guard(
        "inputs that move meanwhile",
        "lake/lake.py",
        "if read == [self.newest(table).files(days) for table in inputs]:",
        "if True:",
        "lake/test_lake.py",
    ),
    Guard(
        "a lake of another enterprise",
        "lake/identity.py",
        "if stored is not None and stored != identity:",
        "if False:",
        "lake/test_identity.py",
    ),
    Guard(
        "pieces of text in the log", "lake/lake.py", '"delta.dataSkippingNumIndexedCols": "0"', "", "test_forgetting.py"
    ),
    Guard("a query that writes", "lake/reader.py", "if len(statements) != 1 or", "if False and", "lake/test_reader.py"),
    Guard(
        "a query that reads elsewhere",
        "lake/reader.py",
        '    "set enable_external_access = false",\n',
        "",
        "lake/test_reader.py",
    ),
    Guard(
        "a query that loads an extension",
        "lake/reader.py",
        "set autoinstall_known_extensions = false",
        "select 1",
        "lake/test_reader.py",
    ),
    Guard(
        "a query that reads a replaced version",
        "lake/reader.py",
        "set allowed_paths = [{', '.join(quoted(file) for file in files)}]",
        "set allowed_directories = [{', '.join(quoted(file.split('/part-')[0]) for file in files)}]",
        "lake/test_reader.py",
    ),
    Guard(
        "a formula in a CSV",
        "cli/rows.py",
        "if _FORMULA.match(text)",
        "if False",
        "test_cli.py",
    ),
    Guard(
        "NaN in JSON",
        "lake/forms.py",
        'if kind.id in _FLOATS:\n        return f"case when',
        'if False:\n        return f"case when',
        "lake/test_forms.py",
    ),
    Guard(
        "a query without a limit of time",
        "cli/limits.py",
        "if time.monotonic() > ends_at:",
        "if False:",
        "cli/test_limits.py::test_a_query_ends_at_its_limit_of_time",
    ),
    Guard(
        "texts that DuckDB does not count",
        "cli/limits.py",
        "if _memory_in_use() > most",
        "if False",
        "cli/test_limits.py::test_a_query_ends_at_its_limit_of_memory",
    ),
    Guard(
        "spills without a limit",
        "lake/reader.py",
        "set max_temp_directory_size = '{limits.disk_bytes}B'",
        "select 1",
        "cli/test_limits.py::test_a_query_that_spills_more_than_there_is_room_for_names_the_place",
    ),
    Guard(
        "spills that a query leaves behind",
        "cli/limits.py",
        "cut_off=lambda: shutil.rmtree(folder, ignore_errors=True)",
        "cut_off=lambda: None",
        "cli/test_limits.py::test_a_query_ends_at_its_limit_of_time",
    ),
    Guard(
        "a lake that does not answer",
        "cli/commands.py",
        "@stoppable()\ndef tables",
        "def tables",
        "cli/test_signals.py::test_a_command_whose_lake_does_not_answer_ends_within_ten_seconds",
    ),
    Guard(
        "text that begins with a dash",
        "cli/words.py",
        "elif _is_text(word, names):",
        "elif False:",
        "cli/test_words.py",
    ),
    Guard(
        "a typo taken for text",
        "cli/words.py",
        "and any(map(str.isspace, word))",
        "",
        "cli/test_words.py",
    ),
    Guard(
        "characters that a terminal lacks",
        "cli/endings.py",
        'stream.reconfigure(errors="backslashreplace")',
        "pass",
        "cli/test_output.py",
    ),
    Guard(
        "a path that a library takes for another",
        "lake/lake.py",
        "if unusable := set((_NOT_IN_A_URI if is_uri else _NOT_IN_A_PATH).findall(self.uri)):",
        "if unusable := set():",
        "lake/test_location.py",
    ),
    Guard("tables others may read", "lake/lake.py", "mode=0o700", "mode=0o777", "lake/test_lake.py"),
    # Damage
    Guard(
        "damage: a file of another size",
        "lake/soundness.py",
        "if found.size != file.size:",
        "if False:",
        _VERIFY + "a_file_with_the_same_rows_that_is_not_the_one_written_is_named",
    ),
    Guard(
        "damage: another number of rows",
        "lake/soundness.py",
        "if stored.num_rows != file.rows:",
        "if False:",
        _VERIFY + "a_log_that_tells_another_number_of_rows_is_named",
    ),
    Guard(
        "damage: a renamed column",
        "lake/soundness.py",
        "if wrong := _wrong_columns(table, stored.schema):",
        "if wrong := []:",
        _VERIFY + "a_column_whose_name_changed_is_named_though_every_value_is_there",
    ),
    Guard(
        "damage: a footer that lies",
        "lake/soundness.py",
        "if untrue := _untrue_statistics(parquet.metadata, stored):",
        "if untrue := []:",
        _VERIFY + "making_a_table_again_replaces_a_damaged_file",
    ),
    Guard(
        "damage: a file no reader takes, when made again",
        "lake/lake.py",
        "{f.day for f in files if f.day and not self._holds(_of_days(rows, [f.day]), f.day)}",
        "set()",
        _VERIFY + "making_a_table_again_replaces_a_damaged_file",
    ),
    Guard(
        "damage: files without their log",
        "lake/lake.py",
        "if not _holds_files(location):",
        "if True:",
        _VERIFY + "a_table_whose_log_is_broken_cannot_be_opened",
    ),
    Guard(
        "damage: an emptied log entry",
        "lake/log.py",
        "and not entry.size)",
        "and False)",
        _VERIFY + "a_broken_log_is_named_with_what_heals_it",
    ),
    Guard(
        "damage: a raw row's seal",
        "raw/soundness.py",
        "if row[ROW_HASH] is not None and row[ROW_HASH] != seal:",
        "if False:",
        _VERIFY + "a_sound_version_has_no_fault_and_any_change_of_it_has",
    ),
    Guard(
        "damage: a payload unlike its content hash",
        "raw/soundness.py",
        'content == row["content_hash"]',
        "True",
        _VERIFY + "a_sealed_row_that_contradicts_its_payload_is_faulty",
    ),
    Guard(
        "damage: key columns unlike the payload",
        "raw/soundness.py",
        "return _fault_of_content(row, item.content_hash) or told_otherwise",
        "return _fault_of_content(row, item.content_hash)",
        _VERIFY + "a_sealed_row_that_contradicts_its_payload_is_faulty",
    ),
    Guard(
        "damage: a raw row twice",
        "raw/soundness.py",
        "table.key)] > 1 for row in rows)",
        "table.key)] > 2 for row in rows)",
        _VERIFY + "a_raw_row_that_stands_twice_is_named",
    ),
    Guard(
        "damage: a changed raw row written again",
        "raw/row_hashes.py",
        "    if broken.num_rows:",
        "    if False:",
        _LANDING,
    ),
    Guard(
        "damage: a derived row unlike its inputs",
        "verification.py",
        "in sorted(self._snapshots[table.name].days_other_than(of_sound, sound)):",
        "in ():",
        _VERIFY + "a_derived_row_that_is_not_what_its_inputs_give_is_named_and_heals",
    ),
    Guard(
        "damage: a report unlike its inputs",
        "verification.py",
        "or snapshot.holds(made):",
        "or True:",
        _VERIFY + "a_report_that_is_not_what_its_inputs_give_is_named",
    ),
    Guard(
        "damage: what follows from it is not blamed",
        "verification.py",
        "if any(self._is_damaged(table, each) for each in self._made_of(table, [day]))",
        "if False",
        _VERIFY + "a_raw_row_that_changed_is_named_and_what_follows_from_it_is_not_blamed",
    ),
    Guard(
        "damage: rows that are not sound, salvaged",
        "salvaging.py",
        "[fault is None for fault in faults_of(table, rows, hour)]",
        "[True] * rows.num_rows",
        _VERIFY + "repair_keeps_sound_rows_and_brings_back_the_damaged_one_from_an_older_file",
    ),
    Guard(
        "damage: rows of older files, salvaged",
        "salvaging.py",
        "(*newest, *files_ever(snapshot.location, day))",
        "newest",
        _VERIFY + "repair_keeps_sound_rows_and_brings_back_the_damaged_one_from_an_older_file",
    ),
    Guard(
        "damage: text that is to be gone, salvaged",
        "salvaging.py",
        "yield from redaction.rows(table, sound).to_pylist()",
        "yield from sound.to_pylist()",
        _VERIFY + "text_that_is_to_be_gone_is_not_brought_back",
    ),
    # Derived
    Guard(
        "the gate: a rollup that does not add up",
        "derived/queries.py",
        "        if found:",
        "        if False:",
        "derived",
    ),
    Guard(
        "a payload Python cannot read",
        "derived/queries.py",
        "except (RecursionError, ValueError):",
        "except ZeroDivisionError:",
        "derived/test_tellings.py",
    ),
    Guard(
        "lone surrogates and NaN",
        "derived/queries.py",
        "    if mended.num_rows:",
        "    if False:",
        "derived/test_tellings.py",
    ),
    Guard(
        "the newest telling before the richest feed",
        "derived/told_sessions.sql",
        "order by updated_at desc nulls last, precedence asc",
        "order by precedence asc",
        "derived/test_told_sessions.py",
    ),
    Guard(
        "what a session said before it vanished",
        "derived/histories.sql",
        "max(fetched_at) filter (where is_listed) as latest_fetched_at",
        "max(fetched_at) as latest_fetched_at",
        "derived/test_latest_versions.py",
    ),
    Guard(
        "a detail of a state left since",
        "derived/told_sessions.sql",
        "(newest_v3_updated_at is not distinct from newest_updated_at)",
        "true",
        "derived/test_told_sessions.py",
    ),
    Guard(
        "spend summed as floats",
        "derived/acu_daily.sql",
        "sum(sessions.acus) as acus,",
        "sum(sessions.acus::double)::decimal(18, 6) as acus,",
        "chaos/test_spend_totals.py",
    ),
    Guard(
        "what division leaves over",
        "derived/acu_daily_by_tag.sql",
        "case when rank = 1 then micro_acus % tags else 0 end",
        "0",
        "derived/test_acu_daily_by_tag.py",
    ),
    # Dagster's event log
    Guard(
        "records of Dagster's that do not fit on the disk",
        "cli/endings.py",
        "if sqlalchemy is None or not isinstance(error, sqlalchemy.DBAPIError):",
        "if True:",
        "test_cli.py::test_records_of_dagsters_that_do_not_fit_on_the_disk_get_three_lines_and_can_be_kept_later",
    ),
    Guard(
        "events of an interrupted step",
        "event_log.py",
        "if group and group[0].run_id in runs]",
        "if False]",
        "test_event_log.py::test_what_an_interrupted_step_left_unfinished_is_stored_with_its_failure",
    ),
    Guard(
        "news for who watches a run",
        "event_log.py",
        "os.utime(self.path_for_shard(run_id))",
        "pass",
        "test_event_log.py::test_who_watches_a_run_is_told_of_each_event_at_once",
    ),
    Guard(
        "a run's file that another process makes in the same moment",
        "event_log.py",
        'if "already exists" in str(error.orig) or "locked" in str(error.orig):',
        "if False:",
        "test_event_log.py::test_a_file_that_many_make_at_once_or_a_kill_left_empty_is_whole",
    ),
    Guard(
        "the revision of a run's file",
        "event_log.py",
        "(revisions.pop(),)",
        '("other",)',
        "test_event_log.py::test_the_file_of_a_run_is_what_dagsters_own_storage_would_have_made",
    ),
    Guard(
        "days that a run planned and did not materialize",
        "event_log.py",
        "if newest.get(key, 0) < event_id}",
        "if False}",
        "test_event_log.py::test_a_step_that_fails_loses_nothing_and_its_days_show_as_failed",
    ),
    Guard(
        "nothing stored of an unchanged day",
        "event_log.py",
        "if marked[key] in event}",
        "if False}",
        "test_event_log.py::test_a_run_over_35_unchanged_days_adds_less_than_a_tenth_of_6_7_megabytes",
    ),
    Guard(
        "unchanged days of a failed run",
        "event_log.py",
        "for key in same - planned.keys()}",
        "for key in same}",
        "test_event_log.py::test_days_of_a_failed_run_show_as_materialized_after_one_that_found_them_unchanged",
    ),
    Guard(
        "plans that a run has carried out",
        "event_log.py",
        "_end_plans(index, run_id, asset, set(partitions))",
        "pass",
        "test_event_log.py::test_days_of_a_failed_run_show_as_materialized_after_one_that_found_them_unchanged",
    ),
    Guard(
        "a day that is over by now",
        "asset_facts.py",
        "at >= starts_at(day, hour, after=1),\n",
        "True,\n",
        "test_event_log.py::test_a_day_is_recorded_once_more_when_it_is_over",
    ),
    # Checks of what is stored
    Guard(
        "a check that is asked for alone",
        "asset_checks.py",
        "if len(context.selected_asset_check_keys) == sum(map(len, checks.values())):",
        "if True:",
        "test_pipeline.py::test_one_check_may_run_alone_where_what_others_read_is_damaged",
    ),
    Guard(
        "databases that several processes make at once",
        "cli/commands.py",
        "    begin_dagsters_records()\n",
        "",
        "dagster_ui/test_ui.py::test_a_run_that_is_going_on_when_the_page_is_stopped_ends_well_in_the_background",
    ),
    Guard(
        "an index of several revisions",
        "event_log.py",
        "if len(stored.exec_driver_sql(_REVISIONS).all()) == 1:",
        "if stored.exec_driver_sql(_REVISIONS).all():",
        "test_event_log.py::test_the_file_of_a_run_is_at_the_newest_revision_where_that_of_the_index_cannot_be_told",
    ),
    Guard(
        "a day over by our clock only",
        "raw/asset_checks.py",
        "was_over = record is not None and made_at(record) >= starts_at(newest, checked.hour, after=1)",
        "was_over = record is not None",
        "test_pipeline.py::test_a_day_is_over_by_the_apis_clock_and_clocks_apart_are_warned_of",
    ),
    Guard(
        "clocks apart",
        "raw/asset_checks.py",
        "if abs(seconds) > _CLOCKS_APART_SECONDS]",
        "if False]",
        "test_pipeline.py::test_a_day_is_over_by_the_apis_clock_and_clocks_apart_are_warned_of",
    ),
    Guard(
        "sessions a read misses",
        "raw/asset_checks.py",
        "for day, sessions in unlisted if sessions]",
        "for day, sessions in unlisted if False]",
        "test_pipeline.py::test_a_day_that_lost_its_sessions_keeps_them_as_unlisted_until_they_come_back",
    ),
    Guard(
        "sessions outside the days asked for",
        "raw/asset_checks.py",
        "for day, sessions in outside if sessions]",
        "for day, sessions in outside if False]",
        "test_pipeline.py::test_a_few_sessions_of_other_days_are_left_out_and_warned_of",
    ),
    Guard(
        "ACUs that fell",
        "raw/checks/acus_did_not_fall.sql",
        "where is_newest and acus < acus_before",
        "where false",
        "raw/test_checks.py",
    ),
    Guard(
        "ACUs as text",
        "raw/asset_checks.py",
        "for day, sessions in as_text if sessions]",
        "for day, sessions in as_text if False]",
        "test_pipeline.py::test_items_that_cannot_be_placed_are_kept_aside_and_warned_of",
    ),
    Guard(
        "fields the API reference does not list",
        "devin_api/client.py",
        "fields - payloads.KNOWN_FIELDS[self._feed]",
        "fields - fields",
        "test_pipeline.py::test_fields_the_reference_does_not_list_are_counted",
    ),
    Guard(
        "text in the name of a field",
        "raw/assets.py",
        'name if _FIELD_NAME.fullmatch(name) else "(unprintable)"',
        "name",
        "test_pipeline.py::test_fields_the_reference_does_not_list_are_counted",
    ),
    Guard(
        "an organization that vanished",
        "derived/checks/organizations_stay_listed.sql",
        "having not bool_or(is_listed)",
        "having false",
        "derived/test_checks.py",
    ),
    Guard(
        "a day far too quiet",
        "derived/checks/days_are_as_busy_as_usual.sql",
        "and sessions * 4 < usual",
        "and false",
        "derived/test_checks.py",
    ),
    Guard(
        "a rollup of no organization",
        "derived/checks/acus_add_up.sql",
        "told.org_id is not distinct from rolled_up.org_id",
        "told.org_id = rolled_up.org_id",
        "derived/test_checks.py",
    ),
    # Schedules and days
    Guard(
        "days the lake has lost",
        "asset_facts.py",
        '                and _are_stored(table, told.metadata["dagster/partition_row_count"].value, rows[day])\n',
        "",
        "test_cli.py::test_a_backfill_makes_every_table_and_a_dry_run_and_only_missing_know_it",
    ),
    Guard(
        "days missed while the schedule was off",
        "schedules.py",
        "min(usual, last_read + timedelta(days=1))",
        "usual",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "updates beyond a tick", "schedules.py", "if not updated.complete:", "if False:", "dagster_ui/test_requests.py"
    ),
    Guard(
        "updates of a clock ahead",
        "schedules.py",
        "Cursor(min(window.end, now_there), longer",
        "Cursor(window.end, longer",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "updates of a clock set back",
        "schedules.py",
        "if cursor.until > now:",
        "if False:",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "a day neither schedule nor sensor reads",
        "schedules.py",
        "first_day_read_daily(day_of(now, hour))",
        "first_day_read_daily(day_of(now, hour) - timedelta(days=1))",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "another update of the same day",
        "schedules.py",
        "sha256(updates.encode())",
        "sha256(bytes())",
        "dagster_ui/test_requests.py",
    ),
    Guard(
        "a bad day beside good ones",
        "schedules.py",
        "if day not in bad]",
        "]",
        "test_pipeline.py::test_after_a_run_with_a_bad_day_the_days_beside_it_are_requested",
    ),
    Guard(
        "a day that has not begun",
        "partitions.py",
        "if days[-1] > today:",
        "if False:",
        "test_pipeline.py::test_a_day_there_is_not_is_refused_before_any_request_and_writes_nothing",
    ),
    Guard(
        "the day of an instant of another zone",
        "partitions.py",
        "(instant.astimezone(UTC) - timedelta(hours=hour)).date()",
        "(instant - timedelta(hours=hour)).date()",
        "test_partitions.py",
    ),
    Guard(
        "a date written otherwise",
        "partitions.py",
        "if day is None or day.isoformat() != text:",
        "if day is None:",
        "test_partitions.py",
    ),
    # Dead runs
    Guard(
        "a run whose process was killed",
        "dead_runs.py",
        "if each.is_dead or (is_left and had_time_to_start):",
        "if is_left and had_time_to_start:",
        "test_dead_runs.py::test_a_run_whose_process_was_killed_is_failed_and_the_pool_slots_it_held_are_free",
    ),
    Guard(
        "the pool slots of a killed run",
        "dead_runs.py",
        "        self._instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)\n",
        "",
        "test_dead_runs.py::test_a_run_whose_process_was_killed_is_failed_and_the_pool_slots_it_held_are_free",
    ),
    Guard(
        "a dead run of a backfill",
        "dead_runs.py",
        "if _BACKFILL in run.tags and _MAX_RETRIES not in run.tags:",
        "if False:",
        "test_dead_runs.py::test_a_dead_run_of_a_backfill_is_retried_once_and_no_other",
    ),
    Guard(
        "a run that is alive",
        "event_log.py",
        "                self._locks.take(run_id)\n",
        "                pass\n",
        "test_dead_runs.py::test_a_run_whose_process_is_alive_is_left_alone_and_leaves_no_file",
    ),
    Guard(
        "a run that a killed daemon was starting",
        "dead_runs.py",
        "if each.is_dead or (is_left and had_time_to_start):",
        "if each.is_dead:",
        "test_dead_runs.py::test_a_run_that_a_killed_daemon_was_starting_is_failed_unless_it_starts_and_a_later_one_is_left_alone",
    ),
    Guard(
        "a run of another machine",
        "dead_runs.py",
        'return "gone" if _machine() & set(os.read(file, 1000).decode().split("\\n")) else "unknown"',
        'return "gone"',
        "test_dead_runs.py::test_a_run_of_another_machine_is_left_alone",
    ),
    # Dagster's page
    Guard(
        "a page under another host's name",
        "page/guard.py",
        "if len(hosts) != 1 or hosts[0] not in self._hosts:",
        "if len(hosts) != 1:",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "two hosts at once",
        "page/guard.py",
        "if len(hosts) != 1 or hosts[0] not in self._hosts:",
        "if hosts[0] not in self._hosts:",
        "dagster_ui/test_guard.py::test_a_request_with_two_hosts_is_refused_by_the_server_and_by_the_guard",
    ),
    Guard(
        "a head of 200 kB",
        "page/guard.py",
        'elif scope["type"] == "http" and _head_bytes(scope) > LARGEST_HEAD_BYTES:',
        "elif False:",
        "dagster_ui/test_guard.py::test_an_address_and_headers_of_200_kb_are_refused",
    ),
    Guard(
        "a head without end",
        "page/__main__.py",
        'http="h11",',
        'http="httptools",',
        "dagster_ui/test_guard.py::test_headers_without_end_are_not_read_to_their_end",
    ),
    Guard(
        "input that Dagster's webserver cannot use",
        "page/guard.py",
        "if answer is None or has_answer:",
        "if True:",
        "dagster_ui/test_guard.py::test_what_dagster_cannot_use_of_a_request_gets_an_answer_of_4xx_without_a_traceback",
    ),
    Guard(
        "values that GraphQL cannot use",
        "page/__main__.py",
        "if isinstance(error.original_error, _OF_A_VALUE):",
        "if False:",
        "dagster_ui/test_guard.py::test_what_dagster_cannot_use_of_a_request_gets_an_answer_of_4xx_without_a_traceback",
    ),
    Guard(
        "another site's Origin",
        "page/guard.py",
        'if any(origin != own for origin in headers.getlist("origin")):',
        "if False:",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "another site's Sec-Fetch-Site",
        "page/guard.py",
        'if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):',
        "if False:",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "another site's Referer",
        "page/guard.py",
        'if any(not referer.startswith(f"{own}/") for referer in headers.getlist("referer")):',
        "if False:",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "a websocket without Origin",
        "page/guard.py",
        'return None if "origin" in headers else "a websocket must tell its Origin"',
        "return None",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "GraphQL under a path like its own",
        "page/guard.py",
        'if not path.startswith("/graphql"):',
        'if path != "/graphql":',
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "events reported from outside",
        "page/guard.py",
        'return None if method in ("GET", "HEAD") else "only /graphql takes it"',
        "return None",
        "dagster_ui/test_guard.py",
    ),
    Guard("GraphQL by GET", "page/guard.py", 'if method != "POST":', "if False:", "dagster_ui/test_guard.py"),
    Guard(
        "GraphQL as text/plain",
        "page/guard.py",
        'if [content_type.partition(";")[0].strip() for content_type in content_types] != ["application/json"]:',
        'if not any("application/json" in content_type for content_type in content_types):',
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "a page in another's frame", "page/__main__.py", ', "X-Frame-Options": "DENY"', "", "dagster_ui/test_guard.py"
    ),
    Guard(
        "a page without its guard",
        "page/__main__.py",
        "Middleware(Guard, port=self._port), ",
        "",
        "dagster_ui/test_guard.py",
    ),
    Guard(
        "a path too long for a socket",
        "page/services.py",
        "if _IN_AN_ADDRESS.fullmatch(folder) and os.access(folder, os.W_OK | os.X_OK):",
        "if os.access(folder, os.W_OK | os.X_OK):",
        "dagster_ui/test_ui.py::test_a_folder_for_temporary_files_that_no_socket_fits_in_makes_no_difference",
    ),
    Guard(
        "a run killed with the page",
        "page/services.py",
        "            code_server.terminate()\n",
        "            _stop([code_server])\n",
        "dagster_ui/test_ui.py",
    ),
    Guard(
        "a page for reading that changes things",
        "page/services.py",
        ', *(["--read-only"] if read_only else [])',
        "",
        "dagster_ui/test_ui.py",
    ),
    Guard(
        "a second daemon beside a page for reading",
        "page/services.py",
        "if not read_only:",
        "if True:",
        "dagster_ui/test_ui.py",
    ),
    Guard(
        "a page that died unnoticed",
        "page/services.py",
        "                _require_alive(running)\n        finally",
        "                pass\n        finally",
        "dagster_ui/test_ui.py",
    ),
    # Full disks, kills, interrupts
    Guard(
        "a full disk told as a traceback",
        "lake/errors.py",
        "if (why := _told_by_the_system(error)) is None:",
        "why = ''\n        if True:",
        "lake/test_disk.py",
    ),
    Guard(
        "tables that may not be written",
        "lake/lake.py",
        "for folder in (nearest, *stored):",
        "for folder in (nearest,):",
        "lake/test_disk.py",
    ),
    Guard(
        "a volume that is not mounted",
        "lake/lake.py",
        "if folder.exists() or folder.is_symlink())",
        "if folder.exists())",
        "lake/test_disk.py",
    ),
    Guard(
        "half a lake.json left behind",
        "lake/atomic.py",
        "            with suppress(OSError):\n                filesystem.delete_file(new)",
        "            with suppress(OSError):\n                pass",
        "lake/test_disk.py",
    ),
    Guard(
        "devin.duckdb written in place",
        "lake/catalog.py",
        "        new.replace(file)",
        "        file.write_bytes(new.read_bytes())",
        "lake/test_disk.py",
    ),
    Guard(
        "an empty devin.duckdb on a full disk",
        "lake/catalog.py",
        "            reader.store()",
        "            pass",
        "lake/test_disk.py",
    ),
    Guard(
        "a raw row that breaks its seal joined with others",
        "maintaining.py",
        'damaged_days(snapshot, days, hour) if table.layer == "raw" else {}',
        "{}",
        "test_maintaining.py",
    ),
    Guard(
        "views over files that maintain deletes",
        "maintaining.py",
        "        write_catalog(lake)",
        "        pass",
        "test_maintaining.py",
    ),
    Guard(
        "files of the last week deleted",
        "lake/maintenance.py",
        "            delta.vacuum(full=True, dry_run=False)",
        "            delta.vacuum(retention_hours=0, enforce_retention_duration=False, full=True, dry_run=False)",
        "lake/test_maintenance.py",
    ),
    Guard(
        "joined rows out of order",
        "lake/maintenance.py",
        'return rows.sort_by([(name, "ascending") for name in table.key])',
        "return rows",
        "lake/test_maintenance.py",
    ),
    Guard(
        "older files forgotten with their entries",
        "lake/log.py",
        "for file in (*added, *removed) if",
        "for file in added if",
        "lake/test_maintenance.py",
    ),
    Guard(
        "a damaged devin.duckdb left as it is",
        "lake/catalog.py",
        "    if _told_by(file) == _digest(_definitions(lake, file).values()):",
        "    if file.exists():",
        "lake/test_catalog.py",
    ),
    Guard(
        "older views over newer ones",
        "lake/catalog.py",
        "lake.while_inputs_move(ALL_TABLES, None, lambda: _swap_in(lake, file), _TRIES)",
        "_swap_in(lake, file)",
        "lake/test_catalog.py",
    ),
    Guard(
        "an interrupt that waits for answers",
        "devin_api/client.py",
        "if error is None or isinstance(error, Exception):",
        "if True:",
        "devin_api/test_client.py",
    ),
    Guard(
        "a stop taken for a failed run", "cli/job.py", "        if stop_is_asked():", "        if False:", "test_cli.py"
    ),
    Guard(
        "an interrupt that got lost",
        "cli/job.py",
        "                signal.pthread_kill(main_thread, signal.SIGINT)",
        "                pass",
        "test_cli.py",
    ),
    Guard(
        "what heeds no interrupt",
        "cli/job.py",
        "            stop_now()\n\n    # Written",
        "            pass\n\n    # Written",
        "test_cli.py",
    ),
    # doctor
    Guard(
        "a check that stops the others",
        "doctor.py",
        "except Exception as error:  # whatever one check meets, the others are to be made",
        "except ZeroDivisionError as error:",
        "test_doctor.py",
    ),
    Guard(
        "a schedule that was switched off",
        "doctor.py",
        'state.status.value in ("RUNNING", "STOPPED")',
        'state.status.value == "RUNNING"',
        "test_doctor.py",
    ),
    Guard(
        "a clock that is behind",
        "doctor.py",
        "if abs(self._clock_ahead) <= LARGEST_CLOCK_SKEW:",
        "if self._clock_ahead <= LARGEST_CLOCK_SKEW:",
        "test_doctor.py",
    ),
    Guard(
        "a filter of updates that is ignored",
        "doctor.py",
        'clocks: tuple[Clock, ...] = ("created", "updated")',
        'clocks: tuple[Clock, ...] = ("created",)',
        "test_doctor.py",
    ),
    Guard(
        "a page that comes in another order",
        "doctor.py",
        "if told != told_again:",
        "if set(told) != set(told_again):",
        "test_doctor.py",
    ),
    Guard("a window that includes its end", "doctor.py", "        if ends:\n", "        if False:\n", "test_doctor.py"),
    Guard(
        "a hole between days",
        "doctor.py",
        '"failed" if missing[-1] > min(made) else "warning"',
        '"warning"',
        "test_doctor.py",
    ),
    Guard("a daemon that is silent", "doctor.py", "<= LONGEST_SILENCE.total_seconds()", "< 10**9", "test_doctor.py"),
    Guard(
        "a key shown whole",
        "devin_api/keys.py",
        "told = min(4, (len(key) - len(kind)) // 8)",
        "told = len(key)",
        "devin_api/test_keys.py",
    ),
    Guard(
        "days another lake has",
        "asset_facts.py",
        '                and told.metadata["dagster/uri"].value == lake.location(table)\n',
        "",
        "test_doctor.py",
    ),
)


def main(wanted: list[str]) -> int:
    """Print the table; give the exit code."""
    guards = [guard for guard in GUARDS if not wanted or any(part in guard.name for part in wanted)]
    print("| guard removed | the test that then fails |\n|---|---|")  # noqa: T201 - this is its output
    unguarded = 0
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for guard, test in zip(guards, threads.map(failing_test, guards), strict=True):
            unguarded += test is None
            print(f"| {guard.name} | {f'`{test}`' if test else '**none**'} |", flush=True)  # noqa: T201
    print(f"\n{len(guards)} guards removed, {len(guards) - unguarded} noticed.")  # noqa: T201
    return 1 if unguarded else 0


def failing_test(guard: Guard) -> str | None:
    """The first test that fails without a guard; None when all pass.

    Raises:
        ValueError: The guard is not where the table says.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = _PROJECT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
        file = guard.source(copy)
        text = file.read_text()
        if text.count(guard.text) != 1:
            raise ValueError(f"{guard.name}: {guard.text!r} stands {text.count(guard.text)} times in {guard.file}")
        file.write_text(text.replace(guard.text, guard.without))
        tests = [str(copy / "devin_pipeline_tests" / part) for part in guard.tests.split()]
        pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", "--no-header", "-rfE"]
        try:
            told = subprocess.run(
                [*pytest, *tests], cwd=copy, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            # What would end it was removed.
            return f"{guard.tests}, which then never ends"
        failed = re.search(r"^(?:FAILED|ERROR) (?:\S*/)?(\S+\.py(?:::[^\s\[]+)?)", told.stdout, re.MULTILINE)
        if told.returncode not in (0, 1) or (told.returncode == 1 and failed is None):
            raise ValueError(f"{guard.name}: the tests did not run\n{told.stdout[-2000:]}{told.stderr[-2000:]}")
        return failed[1] if failed else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
