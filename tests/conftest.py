"""For all tests: hypothesis draws the same examples every time, and a busy machine is not an error."""

import gc
import signal

import yaml
from hypothesis import settings

# before Hydra asks for it: a third of the time that composing a configuration takes is PyYAML's parser in Python
yaml.SafeLoader = yaml.CSafeLoader

gc.disable()  # as in a run: while everything is being imported it takes a quarter of the time


def pytest_collection_finish(session):
    gc.freeze()
    gc.enable()


settings.register_profile("archer", derandomize=True, deadline=None, database=None)
settings.load_profile("archer")

# Under nohup, or in a script's background, some signals are ignored, and so they would be by whatever a test starts;
# one that is heard here, and not heeded, starts there as usual.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
