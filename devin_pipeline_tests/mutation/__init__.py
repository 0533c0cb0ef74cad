"""Mutation tests: every guard of the code is removed in turn, and a test must notice.

A guard is marked where it is, and the tests that notice its removal name it with `@pytest.mark.notices("NAME")`
(or, for all tests of a file, with `pytestmark`).
"""
