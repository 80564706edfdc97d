#!/usr/bin/env python3
"""Unpack upstream verl into verl/, check it, and report what another release would change.

Needs nothing but Python 3.11 (and pip, to fetch the wheel), so it runs before any environment exists;
`upgrade` alone also needs PyYAML.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - this runs before an environment chooses the Python
    sys.exit("tools/vendor_verl.py needs Python 3.11 or newer; run it with python3.11")

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script, sys.path starts at tools/

from tools.vendoring.manifest import MANIFEST, Manifest, VendorError, load_manifest  # noqa: E402
from tools.vendoring.sync import sync  # noqa: E402
from tools.vendoring.tree import Problem, check  # noqa: E402
from tools.vendoring.upgrade import pins, report, wheel_version  # noqa: E402
from tools.vendoring.wheel import Wheel, find_or_download, pinned_wheel  # noqa: E402

_EPILOG = """\
exit status:
  0  all is right (upgrade: the release needs nothing done)
  1  problems or findings were printed, one a line
  2  it could not be done: a wrong call, no wheel, a wrong hash, an unreadable manifest

The wheel is kept in $ARCHER_CACHE/wheels, else $XDG_CACHE_HOME/archer/wheels, else ~/.cache/archer/wheels.
docs/vendoring.md explains the arrangement.
"""


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit status."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except VendorError as error:
        print(error, file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    style = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EPILOG}
    parser = argparse.ArgumentParser(prog="vendor_verl.py", description=__doc__, **style)
    root = {"type": Path, "metavar": "DIR", "help": f"the checkout to work on (default: {ROOT})"}
    parser.add_argument("--root", default=ROOT, **root)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", default=argparse.SUPPRESS, **root)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    text = "make verl/ what vendor/verl.toml says; does nothing where it already is"
    verb = verbs.add_parser("sync", help=text, description=text, parents=[common], **style)
    wheel = {"type": Path, "metavar": "PATH", "help": "the wheel itself, for a machine without network"}
    verb.add_argument("--wheel", **wheel)
    verb.set_defaults(run=_sync)

    text = "name every altered, missing, stray or unlisted file under verl/; needs no network and no wheel"
    verb = verbs.add_parser("check", help=text, description=text, parents=[common], **style)
    verb.set_defaults(run=_check)

    text = "report what another release of verl would change for us; writes nothing in the checkout"
    verb = verbs.add_parser("upgrade", help=text, description=text, parents=[common], **style)
    verb.add_argument("version", metavar="VERSION", help="the release to look at, such as 0.6.1")
    verb.add_argument("--wheel", **wheel)
    verb.set_defaults(run=_upgrade)
    return parser


def _sync(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.root)
    return _say(sync(args.root, manifest, args.wheel), manifest)


def _check(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.root)
    return _say(check(args.root, manifest), manifest)


def _say(problems: list[Problem], manifest: Manifest) -> int:
    for problem in problems:
        print(problem)
    if not problems:
        release = f"{manifest.upstream.name} {manifest.upstream.version}"
        print(f"{release} and {len(manifest.own)} files of our own: as {MANIFEST} says")
    return 1 if problems else 0


def _upgrade(args: argparse.Namespace) -> int:
    manifest = load_manifest(args.root)
    new = Wheel(args.wheel or find_or_download(manifest.upstream.name, args.version))
    if wheel_version(new) != args.version:
        raise VendorError(f"{new.path}: is {wheel_version(new)}; give the wheel of {args.version}")
    sections = report(args.root, manifest, pinned_wheel(manifest.upstream), new)
    print(f"{manifest.upstream.name} {manifest.upstream.version} -> {args.version}")
    for title, findings in sections.items():
        print(f"\n{title}: {len(findings) or 'nothing'} to look at")
        for finding in findings:
            print(f"  {finding}")
    print("\nFor vendor/verl.toml:")
    for line in pins(manifest, new):
        print(f"  {line}")
    return 1 if any(sections.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
