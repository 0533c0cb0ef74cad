"""The code location of this pipeline, as Dagster names it in runs, states and cursors."""

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import CODE_LOCATION_TAG, REPOSITORY_LABEL_TAG

CODE_LOCATION = "devin_pipeline"
DEFINITIONS = "devin_pipeline.definitions"


def origin_of(job: str) -> RemoteJobOrigin:
    """What a run of the job names as its origin, so that the Dagster UI lists it and executes it again."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), SINGLETON_REPOSITORY_NAME)
    return repository.get_job_origin(job)


def name_origin(instance: dg.DagsterInstance, run_id: str) -> None:
    """Have a run of this pipeline name its origin if it does not, as one that `dg launch` has begun."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.remote_job_origin or run.job_code_origin is None:
        return
    code = run.job_code_origin.get_repo_pointer()
    if isinstance(code, ModuleCodePointer) and code.module == DEFINITIONS:
        origin = origin_of(run.job_name)
        label = origin.repository_origin.get_label()
        instance.add_run_tags(run_id, {REPOSITORY_LABEL_TAG: label, CODE_LOCATION_TAG: CODE_LOCATION})
        if tagged := instance.get_run_by_id(run_id):
            instance.run_storage.replace_job_origin(tagged, origin)
