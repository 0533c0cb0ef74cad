"""What the Dagster UI shows of every table, whatever runs did."""

import dagster as dg

from devin_pipeline.tables.measures import MEASURES, measures_of
from devin_pipeline_tests.documents import definitions


def test_the_dagster_ui_shows_the_measures_of_each_table_with_their_meaning() -> None:
    shown = {}
    for spec in definitions().resolve_all_asset_specs():
        measures = spec.metadata.get("measures")
        if isinstance(measures, dg.TableMetadataValue):
            shown[spec.key.to_user_string()] = [record.data["measure"] for record in measures.records]
            for record in measures.records:
                assert str(record.data["definition"]).startswith(MEASURES[str(record.data["measure"])].definition)
    assert shown == {name: [measure.name for measure in measures_of(name)] for name in shown}
    assert {str(name) for names in shown.values() for name in names} == set(MEASURES)
