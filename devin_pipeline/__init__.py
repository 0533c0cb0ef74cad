"""Where do our ACUs go, and which prompts should we fix: Devin's sessions as tables, run by Dagster."""
