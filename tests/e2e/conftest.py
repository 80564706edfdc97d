"""Whole runs of the stack, each started by a launcher as a user would start it.

A start costs half a minute of imports on two cores, so runs are shared between tests.
"""

from launch_fixtures import output, tiny  # noqa: F401  (fixtures)
