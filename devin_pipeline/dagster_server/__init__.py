"""How we host Dagster: its processes on one machine, its UI behind a guard, its records in DAGSTER_HOME.

What relies on parts of Dagster that are not public belongs here. What the pipeline does, does not.
"""
