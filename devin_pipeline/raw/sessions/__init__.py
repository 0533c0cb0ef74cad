"""Lands what the session feeds returned: one read of the API becomes days, versions, tombstones and quarantine.

What is true of every raw table, whatever its rows are, belongs one folder up.
"""
