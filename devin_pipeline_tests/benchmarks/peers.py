"""The same sessions read by others: dlt as its documentation says, and the script one writes first.

Run as a module, it is told on its standard input which peer, where and of which days, and prints what it cost.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from devin_pipeline_tests.benchmarks.measuring import Cost, measured
from devin_pipeline_tests.benchmarks.server import V2_KEY, V2_PATH
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR

_TABLE = "session_insights"
_MONTHS = 12


@dataclass(frozen=True)
class Place:
    """The server, where to write, and the first and the last billing day."""

    url: str
    folder: Path
    first: date
    last: date

    def window(self) -> tuple[datetime, datetime]:
        """From the start of the first day to the end of the last."""
        day = datetime(self.first.year, self.first.month, self.first.day, DAY_STARTS_AT_UTC_HOUR, tzinfo=UTC)
        return day, day + timedelta(days=(self.last - self.first).days + 1)


def script(place: Place, cost: Cost) -> None:
    """httpx, json and pyarrow: a page after the other, all sessions in one list, one file."""
    with measured(cost):
        items: list[dict[str, Any]] = []
        params: dict[str, Any] = _params(*place.window()) | {"skip": 0, "limit": 200}
        headers = {"Authorization": f"Bearer {V2_KEY}"}
        with httpx.Client(base_url=place.url, headers=headers, timeout=60, trust_env=False) as client:
            more = True
            while more:
                page = client.get(V2_PATH, params=params).raise_for_status().json()
                items += page["items"]
                more = page["has_more"]
                params["skip"] += 200
        pq.write_table(pa.Table.from_pylist(items), place.folder / "sessions.parquet", compression="zstd")
    cost.facts["sessions"] = pq.read_metadata(place.folder / "sessions.parquet").num_rows


def dlt_whole(place: Place, cost: Cost) -> None:
    """dlt with one resource, as its tutorial configures a REST API."""
    _dlt(place, cost, [place.window()])


def dlt_by_month(place: Place, cost: Cost) -> None:
    """dlt with a resource per twelfth of the time, into one table.

    It cannot ask for several pages of one resource at once (dlt#2844).
    """
    start, end = place.window()
    bounds = [start + (end - start) / _MONTHS * month for month in range(_MONTHS + 1)]
    _dlt(place, cost, list(pairwise(bounds)))


def _dlt(place: Place, cost: Cost, windows: Sequence[tuple[datetime, datetime]]) -> None:
    # What dlt's page on performance recommends: threads that extract, processes that normalize, files small enough
    # that each process has one.
    os.environ |= {
        "EXTRACT__WORKERS": "8",
        "EXTRACT__MAX_PARALLEL_ITEMS": "20",
        "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "10000",
        "NORMALIZE__WORKERS": str(os.cpu_count() or 1),
        "NORMALIZE__DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
        "LOAD__WORKERS": "8",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "CRITICAL",
    }
    import dlt
    from dlt.sources.rest_api import rest_api_source

    resources = [
        {
            "name": f"{_TABLE}_{number}",
            "table_name": _TABLE,
            # Several are parallelized below: from here, dlt 1.31 has one request in flight whatever stands here.
            "parallelized": len(windows) == 1,
            "write_disposition": "append",
            "endpoint": {"path": V2_PATH, "params": _params(*window), "data_selector": "items"},
        }
        for number, window in enumerate(windows)
    ]
    source = rest_api_source(
        {
            "client": {
                "base_url": place.url,
                "auth": {"type": "bearer", "token": V2_KEY},
                "paginator": {
                    "type": "offset",
                    "limit": 200,
                    "offset_param": "skip",
                    "limit_param": "limit",
                    "total_path": "total",
                },
            },
            "resources": resources,
        }
    )
    if len(windows) > 1:
        for resource in source.resources.values():
            resource.parallelize()
    with measured(cost):
        pipeline = dlt.pipeline(
            "benchmark",
            pipelines_dir=str(place.folder / "pipelines"),
            destination=dlt.destinations.filesystem(bucket_url=str(place.folder / "lake")),
            dataset_name="devin",
        )
        pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()
    files = (place.folder / "lake" / "devin" / _TABLE).glob("*.parquet")
    cost.facts["sessions"] = sum(pq.read_metadata(file).num_rows for file in files)


def _params(start: datetime, end: datetime) -> dict[str, Any]:
    return {
        "created_date_from": start.isoformat(),
        # v2's upper bound is inclusive.
        "created_date_to": (end - timedelta(microseconds=1)).isoformat(),
    }


PEERS: dict[str, Callable[[Place, Cost], None]] = {
    "dlt rest_api": dlt_whole,
    "dlt rest_api, a resource per month": dlt_by_month,
    "httpx + json + pyarrow": script,
}


def main() -> None:
    """Run one peer as told on standard input, and print what it cost."""
    told = json.load(sys.stdin)
    place = Place(told["url"], Path(told["folder"]), date.fromisoformat(told["from"]), date.fromisoformat(told["to"]))
    cost = Cost()
    PEERS[told["stage"]](place, cost)
    sys.stdout.write(json.dumps(asdict(cost)) + "\n")


if __name__ == "__main__":
    main()
