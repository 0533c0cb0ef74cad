"""`python -m devin_pipeline.dagster_server.webserver`: Dagster's webserver with the guard before it, on loopback."""

import contextlib
import signal
from collections.abc import Sequence
from typing import Any

import click
import dagster as dg
import uvicorn
from dagster._core.errors import DagsterInvariantViolationError
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.log import configure_loggers
from dagster_webserver.cli import DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_MAX_OVERFLOW, DEFAULT_POOL_RECYCLE
from dagster_webserver.version import __version__
from dagster_webserver.webserver import DagsterWebserver
from graphql import GraphQLError, GraphQLFormattedError
from starlette.middleware import Middleware

from devin_pipeline.dagster_server.origin_guard import LARGEST_HEAD_BYTES, OriginGuard

# What Dagster raises for a value that it cannot use, such as a path that leads elsewhere or a cursor that is not one.
_VALUE_ERRORS = (ValueError, DagsterInvariantViolationError)


class GuardedWebserver(DagsterWebserver[WorkspaceProcessContext, WorkspaceRequestContext]):
    """Dagster's webserver, for requests that the guard lets through."""

    def __init__(self, context: WorkspaceProcessContext, port: int) -> None:
        self._port = port
        super().__init__(context, live_data_poll_rate=2000)

    def build_middleware(self) -> list[Middleware]:
        """The guard before everything else."""
        # guard: a Dagster UI without its guard | Middleware(OriginGuard, port=self._port),
        return [Middleware(OriginGuard, port=self._port), *super().build_middleware()]

    def handle_graphql_errors(self, errors: Sequence[GraphQLError]) -> list[GraphQLFormattedError]:
        """Dagster's responses to errors, without the traceback if a value of the request is to blame."""
        responses: list[GraphQLFormattedError] = super().handle_graphql_errors(errors)
        for error, response in zip(errors, responses, strict=True):
            # guard: values that GraphQL cannot use
            if isinstance(error.original_error, _VALUE_ERRORS):
                response.get("extensions", {}).pop("errorInfo", None)
        return responses

    def _determine_status_code(
        self, resolver_errors: list[GraphQLError] | None, captured_errors: list[Exception]
    ) -> int:
        causes = [*(error.original_error for error in resolver_errors or ()), *captured_errors]
        if causes and all(isinstance(cause, _VALUE_ERRORS) for cause in causes):
            return 400
        return super()._determine_status_code(resolver_errors, captured_errors)

    def make_security_headers(self) -> dict[str, str]:
        """Dagster's headers, and that no other site may show the Dagster UI in a frame."""
        # guard: a Dagster UI in another site's frame | , "X-Frame-Options": "DENY"
        return {**super().make_security_headers(), "X-Frame-Options": "DENY"}


@click.command()
@click.option("--workspace", "-w", required=True)
@click.option("--port", "-p", required=True, type=int)
@click.option("--read-only", is_flag=True)
def main(workspace: str, port: int, read_only: bool) -> None:
    """Serve the Dagster UI of the DAGSTER_HOME until a signal stops it."""
    configure_loggers(log_level="INFO")
    # As an exception, so that what was opened is closed; a shell may have left SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        with WorkspaceProcessContext(
            instance,
            workspace_load_target=WorkspaceFileTarget([workspace]),
            version=__version__,
            read_only=read_only,
            code_server_log_level="warning",
        ) as context:
            app: Any = GuardedWebserver(context, port).create_asgi_app()
            uvicorn.run(
                app,
                host="127.0.0.1",
                port=port,
                log_level="warning",
                # Tabs keep websockets open: without a limit, stopping would wait for them.
                timeout_graceful_shutdown=1,
                # The other parser has no limit of its own, and the guard sees only what was read to its end.
                # guard: a head without end | h11 -> httptools
                http="h11",
                h11_max_incomplete_event_size=16 * LARGEST_HEAD_BYTES,
            )


if __name__ == "__main__":
    main()
