"""The pickle that torch's distributed checkpoint calls ``.metadata``, read without calling anything.

A pickle is a program for a small machine.  This one has the instructions that torch's writer uses, and where they
would call a class, it notes the name, the arguments and the state.  ``metadata.py`` makes torch's objects of that.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recipes.archer.checkpoints.bounded import shown

METADATA = ".metadata"
_MODULE = "torch.distributed.checkpoint.metadata"
CLASSES = {  # what torch 2.5 to 2.13 writes, besides dtypes
    *(
        f"{_MODULE}.{name}"
        for name in (
            "Metadata",
            "MetadataIndex",
            "TensorStorageMetadata",
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "TensorProperties",
            "StorageMeta",
            "_MEM_FORMAT_ENCODING",
        )
    ),
    "torch.distributed.checkpoint.filesystem._StorageInfo",
    "torch.Size",
    "torch.serialization._get_layout",
    "pathlib.PosixPath",  # where it was written
}
DTYPES = {
    f"torch.{kind}"
    for kind in (
        *("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
}
_LEAVES = {"BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINUNICODE", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_NOTHING = ("PROTO", "FRAME")


class UnknownError(ValueError):
    """What torch's writer does not write."""


@dataclass(frozen=True)
class Name:
    """A class or a dtype, by its name."""

    name: str


@dataclass(eq=False)  # a key of dictionaries, by identity
class Made:
    """What would be an object: of which class, from which arguments, and the state that it was given."""

    name: str
    args: tuple[Any, ...]
    state: Any = None


def read(content: bytes) -> Any:
    """What a pickle holds: plain values, :class:`Name` and :class:`Made`.

    Raises:
        UnknownError: it names a class that torch's writer does not name, or has another instruction.
        ValueError: it is damaged.
    """
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(content):
            if instruction.name == "STOP":
                return machine.stack.pop()
            machine.do(instruction.name, argument)
    except UnknownError:
        raise
    except (ValueError, IndexError, TypeError):  # a torn file; a stack that does not hold what an instruction needs
        raise ValueError("is damaged") from None
    raise ValueError("is damaged")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: list[Any] = []

    def do(self, name: str, argument: Any) -> None:
        if name in _LEAVES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(self._last(_TUPLES[name]))
        elif (instruction := _INSTRUCTIONS.get(name)) is not None:
            instruction(self, argument)
        elif name not in _NOTHING:
            raise UnknownError(f"has the instruction {name}, which torch does not write")

    def _last(self, number: int) -> tuple[Any, ...]:
        if len(self.stack) < number:
            raise IndexError(number)
        taken = tuple(self.stack[-number:])
        del self.stack[-number:]
        return taken

    def _since_mark(self) -> tuple[Any, ...]:
        start = self.marks.pop()
        taken = tuple(self.stack[start:])
        del self.stack[start:]
        return taken

    def global_(self, _: Any) -> None:
        module, name = self._last(2)
        full = f"{module}.{name}"
        if full not in CLASSES and full not in DTYPES:
            raise UnknownError(f"names {shown(full)}, which no checkpoint needs")
        self.stack.append(Name(full))

    def make(self, _: Any) -> None:
        cls, args = self._last(2)
        if not (isinstance(cls, Name) and cls.name in CLASSES and isinstance(args, tuple)):
            raise TypeError(cls)
        self.stack.append(Made(cls.name, args))

    def build(self, _: Any) -> None:
        state, made = self.stack.pop(), self.stack[-1]
        if not isinstance(made, Made) or made.state is not None:
            raise TypeError(made)
        made.state = state

    def append(self, items: tuple[Any, ...]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError(self.stack[-1])
        self.stack[-1].extend(items)

    def set_items(self, items: tuple[Any, ...]) -> None:
        keys, values = items[::2], items[1::2]
        if type(self.stack[-1]) is not dict or not all(isinstance(key, str | Made) for key in keys):
            raise TypeError(self.stack[-1])
        self.stack[-1].update(zip(keys, values, strict=True))


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "TUPLE": lambda m, _: m.stack.append(m._since_mark()),
    "MEMOIZE": lambda m, _: m.memo.append(m.stack[-1]),
    "BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "LONG_BINGET": lambda m, at: m.stack.append(m.memo[at]),
    "STACK_GLOBAL": _Machine.global_,
    "NEWOBJ": _Machine.make,
    "REDUCE": _Machine.make,
    "BUILD": _Machine.build,
    "APPEND": lambda m, _: m.append(m._last(1)),
    "APPENDS": lambda m, _: m.append(m._since_mark()),
    "SETITEM": lambda m, _: m.set_items(m._last(2)),
    "SETITEMS": lambda m, _: m.set_items(m._since_mark()),
}
