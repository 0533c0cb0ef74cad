"""The lake: tables on disk, written through Delta and read through DuckDB.

Whatever writes a table or opens a DuckDB connection lives here. What the rows mean does not.
"""

from devin_pipeline.lake.bill_notes import BillNote, ReportClock
from devin_pipeline.lake.catalog import renew_moved_catalog, write_catalog
from devin_pipeline.lake.commits import Commit, Rewrite
from devin_pipeline.lake.compaction import (
    Damage,
    Skipped,
    VacuumResult,
    compact,
    expire_log,
    in_portions,
    vacuum,
)
from devin_pipeline.lake.connection import Answer, Connection, QueryLimits, may_name_tables
from devin_pipeline.lake.delta_log import emptied_entries, files_ever, files_in_folder, partition_of_path
from devin_pipeline.lake.erasure import Unfinished
from devin_pipeline.lake.erasure_list import ErasureList, Kind, Person
from devin_pipeline.lake.errors import (
    Damaged,
    LakeError,
    LimitMet,
    NotRead,
    NotReadOnly,
    NotWritten,
    QueryFailed,
    TooManyConflicts,
    UnusableLocation,
    VersionsLost,
    WrongLake,
)
from devin_pipeline.lake.file_integrity import StoredFile, read_verified, rows_by_arrow, rows_by_duckdb
from devin_pipeline.lake.identity import LakeIdentity
from devin_pipeline.lake.lake import Lake
from devin_pipeline.lake.last_reads import LastReads
from devin_pipeline.lake.linked_days import Links, linked_with, links_of
from devin_pipeline.lake.provenance import Inputs, code_fingerprint
from devin_pipeline.lake.snapshot import Snapshot

__all__ = [
    "Answer",
    "BillNote",
    "Commit",
    "Connection",
    "Damage",
    "Damaged",
    "ErasureList",
    "Inputs",
    "Kind",
    "Lake",
    "LakeError",
    "LakeIdentity",
    "LastReads",
    "LimitMet",
    "Links",
    "NotRead",
    "NotReadOnly",
    "NotWritten",
    "Person",
    "QueryFailed",
    "QueryLimits",
    "ReportClock",
    "Rewrite",
    "Skipped",
    "Snapshot",
    "StoredFile",
    "TooManyConflicts",
    "Unfinished",
    "UnusableLocation",
    "VacuumResult",
    "VersionsLost",
    "WrongLake",
    "code_fingerprint",
    "compact",
    "emptied_entries",
    "expire_log",
    "files_ever",
    "files_in_folder",
    "in_portions",
    "linked_with",
    "links_of",
    "may_name_tables",
    "partition_of_path",
    "read_verified",
    "renew_moved_catalog",
    "rows_by_arrow",
    "rows_by_duckdb",
    "vacuum",
    "write_catalog",
]
