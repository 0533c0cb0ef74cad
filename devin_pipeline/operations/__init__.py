"""What an operator does to a lake: verify it, repair it, erase persons and text from it, maintain it. No Dagster.

Each operation covers all raw tables, whatever they hold. When it is done, and what a command prints of it, does not
belong here.
"""
