"""Tests of the stand-in API, read against the published pages."""
