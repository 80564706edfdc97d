"""For all tests: hypothesis draws the same examples every time, and a busy machine is not an error."""

import yaml
from hypothesis import settings

# before Hydra asks for it: a third of the time that composing a configuration takes is PyYAML's parser in Python
yaml.SafeLoader = yaml.CSafeLoader

settings.register_profile("archer", derandomize=True, deadline=None, database=None)
settings.load_profile("archer")
