"""How we host Dagster: its processes on one machine, its UI behind a guard, its records in DAGSTER_HOME.

What relies on private parts of Dagster belongs here, but for `orchestration/run_metadata.py`. What the pipeline does,
does not.
"""
