"""The real judge in a process where every attempt to touch files, other processes or code is recorded."""

import sys
import sysconfig

from recipes.archer.grading import judge as the_judge

_PACKAGES = tuple(path for path in sys.path if path.endswith("-packages"))
_LIBRARY = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_PACKAGES)
_WATCHED = ("os.", "subprocess.", "socket.", "shutil.", "ctypes.", "tempfile.")
_attempts: list[str] = []


def _record(event, arguments):
    if event == "open":
        late_import = str(arguments[0]).startswith(_LIBRARY) and not arguments[2] & 3
        suspicious = not late_import
    elif event == "compile":
        # SymPy writes the arithmetic of its monomials as code, from a number of variables.
        own = arguments[0] is None or bytes(arguments[0]).startswith(b"def monomial_")
        suspicious = not own and not str(arguments[1]).startswith(_LIBRARY)
    else:
        suspicious = event.startswith(_WATCHED) and event != "os.listdir"
    if suspicious:
        _attempts.append(f"{event} {arguments!r}"[:200])


the_judge.warm_up()
sys.addaudithook(_record)


def judge(data_source, solution_str, ground_truth, extra_info=None):
    _attempts.clear()
    if solution_str == "open a file":  # to see that the recorder records
        open("/etc/hostname").close()
    verdict = the_judge.judge(solution_str, [ground_truth])
    return {"score": 0.0, "verdict": verdict["outcome"], "attempts": list(_attempts)}
