#!/usr/bin/env python3
"""A stand-in for `kubectl`: keeps the objects that it is given in the folder STUB_OBJECTS, a file each.

As the real one, which goes on with the next object after an error, `create` refuses a name that is taken, `describe`
and `delete` one that it does not know, and `get` by a label lists what there is, if need be nothing. Where a file
`silent` is among the objects, the server does not answer; a file `listed` has objects that are listed too, as pods and
events are, which nobody creates by hand.
"""

import json
import os
import sys
from pathlib import Path

import yaml

KINDS = {"jobs.batch": "Job", "rayjobs.ray.io": "RayJob", "pods": "Pod", "events": "Event"}


def main() -> None:
    objects, words = Path(os.environ["STUB_OBJECTS"]), sys.argv[1:]
    with open(objects.parent / "asked", "a") as asked:
        asked.write(" ".join(words) + "\n")
    if (objects / "silent").exists():
        sys.exit("Unable to connect to the server: net/http: TLS handshake timeout")
    if words == ["create", "-f", "-"]:
        problems = []
        for manifest in yaml.safe_load_all(sys.stdin.read()):
            place = objects / f"{manifest['kind'].lower()}-{manifest['metadata']['name']}"
            if place.exists():
                problems.append(f'Error from server (AlreadyExists): "{place.name}" already exists')
            else:
                place.write_text(yaml.safe_dump(manifest))
        sys.exit("\n".join(problems) or 0)
    if words[0] == "get":
        kinds = [KINDS[kind] for kind in words[1].split(",")]
        found = [yaml.safe_load(path.read_text()) for path in objects.iterdir() if path.name != "listed"]
        if (objects / "listed").exists():
            found += yaml.safe_load((objects / "listed").read_text())
        if "-l" in words:
            key, _, value = words[words.index("-l") + 1].partition("=")
            found = [one for one in found if one["metadata"].get("labels", {}).get(key) == value]
        print(json.dumps({"kind": "List", "items": [one for one in found if one["kind"] in kinds]}))
        return
    verb, *named, _, _ = words  # … -n NAMESPACE
    places = [objects / one.replace("/", "-") for one in (named if "/" in named[0] else ["-".join(named)])]
    assert verb in ("describe", "delete"), words
    there = [place for place in places if place.exists()]
    for place in there if verb == "delete" else ():
        place.unlink()
    missing = [f'Error from server (NotFound): "{place.name}" not found' for place in places if place not in there]
    sys.exit("\n".join(missing) or 0)


if __name__ == "__main__":
    main()
