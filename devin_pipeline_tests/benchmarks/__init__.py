"""How fast, how large and how costly, next to dlt and a plain script on the same server in the same run.

`uv run --group bench python -m devin_pipeline_tests.benchmarks` prints one table. Nothing here is part of the tests but
`test_server.py`, and no test looks at a clock.
"""
