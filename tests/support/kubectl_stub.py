#!/usr/bin/env python3
"""A stand-in for `kubectl`: keeps the objects that it is given in the folder STUB_OBJECTS, a file each.

As the real one, `create` refuses a name that is taken, and `describe` and `delete` one that it does not know.
"""

import os
import sys
from pathlib import Path

import yaml


def main() -> None:
    objects, words = Path(os.environ["STUB_OBJECTS"]), sys.argv[1:]
    if words == ["create", "-f", "-"]:
        for manifest in yaml.safe_load_all(sys.stdin.read()):
            place = objects / f"{manifest['kind'].lower()}-{manifest['metadata']['name']}"
            if place.exists():
                sys.exit(f"stub kubectl: {place.name} already exists")
            place.write_text(yaml.safe_dump(manifest))
        return
    verb, kind, name, _, _ = words  # … -n NAMESPACE
    place = objects / f"{kind}-{name}"
    if verb not in ("describe", "delete") or not place.exists():
        sys.exit(f"stub kubectl: {verb} {place.name}: not found")
    if verb == "delete":
        place.unlink()


if __name__ == "__main__":
    main()
