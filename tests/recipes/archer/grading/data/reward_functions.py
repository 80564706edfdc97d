"""Reward functions as a user may write them, for the tests; each is one way to behave."""

import os
import subprocess
import sys
import threading
import time


def compute_score(data_source, solution_str, ground_truth, extra_info=None, bonus=0.0):
    return {
        "score": float(solution_str == ground_truth) + bonus,
        "acc": solution_str == ground_truth,
        "pred": solution_str,
        "source": data_source,
        "info": extra_info,
    }


def misbehave(data_source, solution_str, ground_truth, extra_info=None):
    """Does what the response says."""
    if solution_str == "sleep":
        time.sleep(600)
    if solution_str == "memory":
        return len(bytearray(1 << 40))
    if solution_str == "exit":
        os._exit(3)
    if solution_str == "exit later":
        threading.Timer(0.2, os._exit, (4,)).start()
    if solution_str == "raise":
        raise KeyError("no such thing")
    if solution_str == "print":
        print("noise where the messages go", flush=True)
        os.write(1, b"more noise")
    if solution_str == "start a process":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        ground_truth.append(child.pid)
        with open(extra_info, "w") as file:
            file.write(str(child.pid))
        time.sleep(600)
    return 1.0


def always_raise(data_source, solution_str, ground_truth, extra_info=None):
    raise NotImplementedError("not today")
