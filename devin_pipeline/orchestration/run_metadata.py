"""How a step records the metadata of its partitions with Dagster. What the metadata is does not belong here."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.execution.context.metadata_logging import AssetMetadataHandle, OutputMetadataAccumulator


def add_partition_metadata(
    context: dg.AssetExecutionContext, asset: str, metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """What `add_asset_metadata` does, for many partitions at once.

    That looks at every partition of the run and at all that was added before, for each that is added: for a year a
    quarter of the time that Dagster takes.

    Args:
        context: The step.
        asset: The asset.
        metadata: The metadata of each partition, by its key.
    """
    step = context.op_execution_context._step_execution_context
    per_output = dict(step._metadata_accumulator.per_output_metadata)
    for partition, of_partition in metadata.items():
        per_output[AssetMetadataHandle(asset_key=dg.AssetKey(asset), partition_key=partition)] = of_partition
    step._metadata_accumulator = OutputMetadataAccumulator(per_output_metadata=per_output)
