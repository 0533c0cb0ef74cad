"""The same sessions read by others: dlt as its documentation says, and the script one writes first."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from devin_pipeline_tests.benchmarks.measuring import Cost, Place, Work, measured, run_named_work
from devin_pipeline_tests.benchmarks.server import V2_KEY, V2_PATH
from devin_pipeline_tests.benchmarks.sessions import DAY_STARTS_AT_UTC_HOUR

_TABLE = "session_insights"
_MONTHS = 12


def script(place: Place, cost: Cost) -> None:
    """httpx, json and pyarrow: a page after the other, all sessions in one list, one file."""
    with measured(cost):
        items: list[dict[str, Any]] = []
        params: dict[str, Any] = _params(*_window(place)) | {"skip": 0, "limit": 200}
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
    _dlt(place, cost, [_window(place)])


def dlt_by_month(place: Place, cost: Cost) -> None:
    """dlt with a resource per twelfth of the time, into one table.

    It cannot ask for several pages of one resource at once (dlt#2844).
    """
    start, end = _window(place)
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
            # Several are parallelized below: from here, dlt 1.31 has one request in flight whatever is set here.
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


def _window(place: Place) -> tuple[datetime, datetime]:
    start = datetime(place.first.year, place.first.month, place.first.day, DAY_STARTS_AT_UTC_HOUR, tzinfo=UTC)
    return start, start + timedelta(days=(place.last - place.first).days + 1)


def _params(start: datetime, end: datetime) -> dict[str, Any]:
    return {
        "created_date_from": start.isoformat(),
        # v2's upper bound is inclusive.
        "created_date_to": (end - timedelta(microseconds=1)).isoformat(),
    }


DLT = "dlt rest_api"
DLT_BY_MONTH = "dlt rest_api, a resource per month"
PEERS: Mapping[str, Work] = {
    DLT: dlt_whole,
    DLT_BY_MONTH: dlt_by_month,
    "httpx + json + pyarrow": script,
}


if __name__ == "__main__":
    run_named_work(PEERS)
