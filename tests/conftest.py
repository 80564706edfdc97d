"""For all tests: hypothesis draws the same examples every time, and a busy machine is not an error."""

from hypothesis import settings

settings.register_profile("archer", derandomize=True, deadline=None, database=None)
settings.load_profile("archer")
