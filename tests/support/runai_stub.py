#!/usr/bin/env python3
"""A stand-in for `runai`: refuses what the documentation of its generation does not allow, records the rest.

Which generation it is comes from STUB_GENERATION, where it writes from STUB_RECORD. The flags are those of
`runai submit` (v1) and `runai training standard submit` (v2) in the vendor's command-line reference. Asked how a job
is, it says what the file STUB_SAYS has, without one that it runs; with STUB_EXIT every command ends with that code.
"""

import json
import os
import sys
from pathlib import Path

VALUE, SWITCH = True, False
FLAGS = {
    "v1": {
        "--name": VALUE, "-i": VALUE, "--image": VALUE, "-p": VALUE, "--project": VALUE, "-g": VALUE,
        "--gpu": VALUE, "--node-pools": VALUE, "--existing-pvc": VALUE, "--pvc-exists": VALUE,
        "--large-shm": SWITCH, "-e": VALUE, "--environment": VALUE, "--backoff-limit": VALUE,
        "--working-dir": VALUE, "--command": SWITCH,
    },
    "v2": {
        "-i": VALUE, "--image": VALUE, "-p": VALUE, "--project": VALUE, "-g": VALUE,
        "--gpu-devices-request": VALUE, "--node-pools": VALUE, "--existing-pvc": VALUE, "--large-shm": SWITCH,
        "-e": VALUE, "--env-secret": VALUE, "--backoff-limit": VALUE, "--working-dir": VALUE,
        "--preemptibility": VALUE, "--priority": VALUE, "--termination-grace-period": VALUE,
        "-c": SWITCH, "--command": SWITCH,
    },
}  # fmt: skip
SUBMIT = {"v1": ["submit"], "v2": ["training", "standard", "submit"]}
LOOKS = {
    "v1": [["describe", "job", "NAME"], ["logs", "NAME", "-f"], ["delete", "job", "NAME"]],
    "v2": [["training", "standard", verb, "NAME"] for verb in ("describe", "delete")]
    + [["training", "standard", "logs", "NAME", "-f"]],
}
ONCE = {"-i", "-p", "-g", "--name", "--backoff-limit"}


def refuse(reason):
    print(f"stub runai: {reason}", file=sys.stderr)
    sys.exit(64)


def parse_submit(generation, rest):
    flags, name, seen = FLAGS[generation], None, []
    if generation == "v2":
        name, rest = rest[0], rest[1:]
    while rest and rest[0] != "--":
        flag, rest = rest[0], rest[1:]
        if flag not in flags:
            refuse(f"unknown flag {flag}")
        value, rest = (rest[0], rest[1:]) if flags[flag] is VALUE else (True, rest)
        if flag in ONCE and flag in dict(seen):
            refuse(f"{flag} given twice")
        seen.append((flag, value))
    given = dict(seen)
    name = given.get("--name", name)
    if not rest or not given.get("--command") or len(rest) < 2:
        refuse("no command after --command --")
    if not name or "-i" not in given or "-p" not in given:
        refuse("a name, an image and a project are needed")
    return {"name": name, "flags": seen, "command": rest[1:]}


def main():
    generation, arguments = os.environ["STUB_GENERATION"], sys.argv[1:]
    verb = SUBMIT[generation]
    if arguments[-1:] == ["--help"]:
        # like the real ones, an unknown subcommand with --help prints the root's help
        known = arguments[:-1] == verb
        print("\n".join(f"  {flag}" for flag in FLAGS[generation]) if known else f"Commands:\n  {verb[0]}  …")
        return
    record = {"argv": arguments}
    if arguments[: len(verb)] == verb:
        record |= parse_submit(generation, arguments[len(verb) :])
    else:
        *look, flag, project = arguments
        positions = [i for i, word in enumerate(look) if word.startswith("archer-")]
        for i in positions:
            look[i] = "NAME"
        if look not in LOOKS[generation] or flag != "-p":
            refuse(f"unknown command {arguments}")
        record["project"] = project
        if "describe" in look:
            said = Path(os.environ.get("STUB_SAYS", "/nowhere"))
            status = {"v1": "NAME: x\nSTATUS: Running", "v2": "Name: x\nPhase: Running"}[generation]
            print(said.read_text() if said.exists() else status)
    with open(os.environ["STUB_RECORD"], "w") as file:
        json.dump(record, file)
    sys.exit(int(os.environ.get("STUB_EXIT", "0")))


if __name__ == "__main__":
    main()
