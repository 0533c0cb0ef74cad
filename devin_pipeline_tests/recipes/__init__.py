"""The recipes of CONTRIBUTING.md, followed on toys in a copy of the project."""
