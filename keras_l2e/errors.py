"""The two kinds of failure a user meets: each entry point shows them as one line, no traceback."""


class UsageError(Exception):
    """What was asked for is wrong: a flag, name or size, a path of the wrong kind. Exit code 2."""


class WorkError(Exception):
    """What was found while working: other data than expected, a broken file. Exit code 1."""
