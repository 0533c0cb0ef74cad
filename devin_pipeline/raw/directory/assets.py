"""The asset of the lists. Each kind stands alone: one that is refused costs the others nothing."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import dagster as dg
import pyarrow as pa

from devin_pipeline.devin_api import DIRECTORY_KINDS, DevinClient, DirectoryKind, Listing, content_hash
from devin_pipeline.lake import BillNote, Commit, Lake
from devin_pipeline.orchestration.asset_specs import not_read_spec, table_asset
from devin_pipeline.orchestration.partitions import RANGES
from devin_pipeline.orchestration.resources import DevinApiResource, Erased, LakeResource
from devin_pipeline.orchestration.run_metadata import (
    ACCEPTS_REMOVALS,
    problems_as_failures,
    report_table,
    starts_by_itself,
)
from devin_pipeline.raw.answers import shrunk
from devin_pipeline.raw.versions import append_versions
from devin_pipeline.tables import RAW_DIRECTORY

_OF_ORGANIZATIONS: tuple[DirectoryKind, ...] = ("organization_playbooks", "organization_limits")
_ITEM = pa.schema([(name, pa.string()) for name in ("kind", "object_id", "content_hash", "payload")])


def directory_asset(why_not_read: str, *, has_v3_key: bool, erased: Erased) -> dg.AssetsDefinition | dg.AssetSpec:
    """The lists as of now.

    Args:
        why_not_read: Why they are not read; empty if they are.
        has_v3_key: False where only v2 can be asked, which has billing cycles and nothing else.
        erased: Keeps persons on the erasure list out.
    """
    if why_not_read:
        return not_read_spec(RAW_DIRECTORY, why_not_read)

    @table_asset(RAW_DIRECTORY, backfill_policy=RANGES, pool="devin_api")
    def raw_directory(context: dg.AssetExecutionContext, devin_api: DevinApiResource, lake: LakeResource) -> None:
        opened, read_at = lake.open(), datetime.now(UTC)
        with (
            problems_as_failures(),
            erased(opened, lake.day_starts_at_utc_hour),
            devin_api.client(is_awaited=starts_by_itself(context.run), log=context.log.info) as client,
        ):
            listings = list(read_lists(client, opened, has_v3_key=has_v3_key))
            if client.clock_ahead:
                read_at -= client.clock_ahead
            opened.claim(lake.identity)
            accepts = ACCEPTS_REMOVALS in context.run.tags
            commit = land_lists(opened, listings, read_at, keeps_text=lake.keeps_text, accepts_removals=accepts)
        report_table(context, opened, RAW_DIRECTORY, commit)

    return raw_directory


def read_lists(client: DevinClient, lake: Lake, *, has_v3_key: bool) -> Iterator[Listing]:
    """Every list; those of organizations for each organization that is listed.

    Args:
        client: Asks.
        lake: Knows the organizations of sessions, if their list is refused.
        has_v3_key: False where only v2 can be asked.

    Raises:
        DevinError: The API cannot be read, for another reason than that a list is refused.
    """
    if not has_v3_key:
        yield client.directory("cycles", version="v2")
        return
    # The pages of a list follow one another, so lists are read at the same time.
    of_enterprise = [kind for kind in DIRECTORY_KINDS if kind not in _OF_ORGANIZATIONS]
    read = {kind: client.directory_in_background(kind) for kind in of_enterprise}
    organizations = _organizations(client, lake, read["organizations"].result())
    read |= {kind: client.directory_in_background(kind, organizations) for kind in _OF_ORGANIZATIONS}
    for kind in DIRECTORY_KINDS:
        yield read[kind].result()


def _organizations(client: DevinClient, lake: Lake, listing: Listing) -> list[str]:
    """The organizations to ask for what each has of its own."""
    listed = [entry.object_id for entry in listing.entries]
    organizations = listed if listing.refused is None else sorted(lake.organizations() or ())
    if client.org_id is not None and client.org_id not in organizations:
        organizations.append(client.org_id)
    return organizations


def land_lists(
    lake: Lake,
    listings: Sequence[Listing],
    read_at: datetime,
    *,
    keeps_text: bool = True,
    accepts_removals: bool = False,
) -> Commit:
    """Store what lists returned, and note which of them are refused or were cut short.

    Args:
        lake: The lake.
        listings: The lists.
        read_at: When reading them began.
        keeps_text: False when names, e-mails and titles may not be stored.
        accepts_removals: True when somebody said that what is missing was really removed.
    """
    items = pa.Table.from_pylist(
        [
            {
                "kind": listing.kind,
                "object_id": entry.object_id,
                "content_hash": content_hash(entry.payload),
                "payload": entry.payload.decode(),
            }
            for listing in listings
            for entry in listing.entries
        ],
        _ITEM,
    )
    answered = [listing.kind for listing in listings if listing.refused is None]
    cut: dict[str, tuple[int, int]] = {}
    # guard: a list that was cut short, believed | not accepts_removals -> False
    if not accepts_removals:
        found = shrunk(lake, RAW_DIRECTORY, items, _kinds(answered), ["kind"], None).to_pylist()
        cut = {row["kind"]: (row["listed_before"], row["listed_now"]) for row in found}
    whole = [listing.kind for listing in listings if _is_whole(listing) and listing.kind not in cut]
    # guard: what organizations have that were not asked for | "organizations" not in whole -> False
    if "organizations" not in whole:
        whole = [kind for kind in whole if kind not in _OF_ORGANIZATIONS]
    commit = append_versions(lake, RAW_DIRECTORY, items, read_at, read_whole=_kinds(whole), keeps_text=keeps_text)
    lake.note_bill(
        RAW_DIRECTORY,
        [listing.kind for listing in listings],
        BillNote(
            read=frozenset(answered),
            refused={listing.kind: listing.refused for listing in listings if listing.refused is not None},
            shrunk=cut,
            unreadable={listing.kind: listing.unreadable for listing in listings if listing.unreadable},
        ),
    )
    return commit


def _is_whole(listing: Listing) -> bool:
    """Whether what a list does not have is not there."""
    return (
        # guard: a list that is refused, taken for an empty one | listing.refused is None -> True
        listing.refused is None
        and not listing.unreadable
        and not listing.refused_organizations
        and (listing.total is None or listing.total <= len(listing.entries))
    )


def _kinds(kinds: Sequence[DirectoryKind]) -> pa.Table:
    return pa.table({"kind": pa.array(kinds, pa.string())})
