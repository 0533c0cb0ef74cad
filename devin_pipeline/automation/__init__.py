"""When the pipeline runs: jobs, schedules, sensors. What a run does belongs to the assets and to `operations`."""
