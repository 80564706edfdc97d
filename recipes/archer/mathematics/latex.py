"""LaTeX, or what models write in its place, to tokens: groups, macros, text beside mathematics. Pure.

pylatexenc's walker reads the structure; here it is only named. `reading.py` gives the tokens their meaning.
"""

import re
from collections.abc import Iterable, Iterator
from functools import cache

from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexEnvironmentNode,
    LatexGroupNode,
    LatexMacroNode,
    LatexMathNode,
    LatexNode,
    LatexWalker,
    LatexWalkerError,
)
from pylatexenc.macrospec import EnvironmentSpec, LatexContextDb, MacroSpec, std_environment, std_macro

from recipes.archer.mathematics import vocabulary
from recipes.archer.mathematics.tokens import Token, Unreadable, nest, spelled, split

_SIGN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?P<exponent>[eE][-+]?[0-9]{1,9}(?![0-9.]))?"
    r"|(?P<letters>[A-Za-z]+)|(?P<space>\s+)|(?P<operator><=|>=|!=|\*\*|->|[^\w\s]|_)"
)
_COUNTED = re.compile(r"[0-9.](?:\s+|\s*(?:sq|square|cu|cubic)(?:\.\s*|\s+))\Z")
_SYMBOLS = {"**": "^", "->": "to", "−": "-", "~": "space", "€": "euro", "£": "pound"}
SCIENTIFIC, GLUED_UNITS = "scientific", "glued units"  # readings that take more for granted


@cache
def _context() -> LatexContextDb:
    """The macros that take arguments; every other one takes none."""
    one = (*vocabulary.SEE_THROUGH, *vocabulary.TEXT, *vocabulary.MARKED, *vocabulary.HIDDEN, *vocabulary.MODULO)
    two = (*vocabulary.FRACTIONS, *vocabulary.BINOMIALS, "textcolor", "colorbox", "stackrel", "overset", "underset")
    macros = [std_macro(name, False, 1) for name in one] + [std_macro(name, False, 2) for name in two]
    environments = [
        EnvironmentSpec(name, "") for name in (*vocabulary.MATRICES, *vocabulary.LAYOUTS) if name != "array"
    ]
    database = LatexContextDb()
    database.add_context_category(
        "mathematics",
        macros=[*macros, std_macro("sqrt", True, 1)],
        environments=[*environments, std_environment("array", False, 1)],
        specials=[],
    )
    database.set_unknown_macro_spec(MacroSpec("", ""))
    database.set_unknown_environment_spec(EnvironmentSpec("", ""))
    return database


class _Flattener:
    """Nodes to a flat list of tokens, brackets still unmatched."""

    def __init__(self, options: frozenset[str]):
        self.options = options

    def nodes(self, nodes: Iterable[LatexNode | None], in_text: bool = False) -> Iterator[Token]:
        for node in nodes:
            if isinstance(node, LatexCharsNode):
                yield from self.characters(node.chars, in_text)
            elif isinstance(node, LatexMathNode):
                yield from self.nodes(node.nodelist)
            elif isinstance(node, LatexGroupNode):
                yield self.group(node, in_text)
            elif isinstance(node, LatexMacroNode):
                yield from self.macro(node, in_text)
            elif isinstance(node, LatexEnvironmentNode):
                yield from self.environment(node)
            elif node is not None:
                raise Unreadable(f"{type(node).__name__} is not mathematics")

    def group(self, node: LatexGroupNode, in_text: bool) -> Token:
        inner = list(self.nodes(node.nodelist, in_text))
        if [token.text for token in inner if token.kind != "space"] == [","]:
            return Token("operator", "{,}")
        if len(inner) == 1 and inner[0].kind in ("number", "name"):
            return inner[0]  # x_{1} is x_1
        return Token("group", "{}", (nest(inner),))

    def argument(self, node: LatexNode | None, in_text: bool = False) -> tuple[Token, ...]:
        if (
            isinstance(node, LatexMacroNode)
            and node.nodeargd is None
            and node.macroname in (*vocabulary.FRACTIONS, "sqrt")
        ):
            raise Unreadable("a macro as an argument without braces")
        inner = node.nodelist if isinstance(node, LatexGroupNode) else [node]
        return nest(list(self.nodes(inner, in_text)))

    def characters(self, text: str, in_text: bool) -> Iterator[Token]:
        position = 0
        while position < len(text):
            match = _SIGN.match(text, position)
            if match is None:
                raise Unreadable(f"{text[position]!r} is not mathematics")
            position = match.end()
            if match["number"]:
                number, exponent = match["number"], match["exponent"]
                if exponent and self._is_sum(number, exponent):
                    position, exponent = match.end("number"), None
                yield Token("number", number + (exponent or ""))
            elif match["letters"]:
                yield from self.letters(match["letters"], text, match.start(), in_text)
            elif match["space"]:
                yield Token("space", " ")
            else:
                sign = _SYMBOLS.get(match["operator"], match["operator"])
                yield Token("space", " ") if sign == "space" else Token("operator", sign)

    def _is_sum(self, number: str, exponent: str) -> bool:
        """Whether 2e-3 is 2e minus 3, as answers with e have it; 1e-3, 2.5e-3 and 2e3 are numbers."""
        return exponent[1] == "-" and number.isdigit() and number != "1" and SCIENTIFIC not in self.options

    def letters(self, run: str, text: str, start: int, in_text: bool) -> Iterator[Token]:
        if run in vocabulary.FUNCTIONS and not (in_text and run in ("max", "min", "lim", "floor")):
            yield Token("function", run)
        elif in_text or len(run) > 1 and self._stands_alone(run, text, start):
            yield Token("text", run)
        elif run in vocabulary.SPELLED:
            yield Token("name", vocabulary.SPELLED[run])
        else:
            yield from (Token("name", letter) for letter in run)

    def _stands_alone(self, run: str, text: str, start: int) -> bool:
        if run in vocabulary.SPELLED:
            return False
        before, after = text[start - 1 : start], text[start + len(run) : start + len(run) + 1]
        if before.isdigit():
            return GLUED_UNITS in self.options and (vocabulary.is_word(run) or vocabulary.is_unit(run))
        counted = _COUNTED.search(text[max(0, start - 20) : start]) is not None
        if run in vocabulary.SHORT_UNITS:
            return counted or not text[:start].strip() and run in vocabulary.CLEAR_UNITS
        if counted and GLUED_UNITS in self.options and vocabulary.is_unit(run):
            return True
        return vocabulary.is_word(run) and before not in ("^", "_") and after not in ("^", "_")

    def macro(self, node: LatexMacroNode, in_text: bool) -> Iterator[Token]:
        name = node.macroname
        arguments = list(node.nodeargd.argnlist) if node.nodeargd is not None else []
        if name in vocabulary.IGNORED or name in vocabulary.HIDDEN:
            return
        if name in vocabulary.SPACES or name == "!":
            yield Token("space", name if name == "!" else " ")
        elif name in vocabulary.FRACTIONS or name in vocabulary.BINOMIALS:
            kind = "frac" if name in vocabulary.FRACTIONS else "binom"
            yield Token(kind, name[-4:], tuple(map(self.argument, arguments)))
        elif name == "sqrt":
            index, radicand = arguments
            yield Token("sqrt", "", (self.argument(radicand), self.argument(index) if index else ()))
        elif name in vocabulary.SEE_THROUGH or name in ("textcolor", "colorbox"):
            yield from self.see_through(arguments[-1], in_text)
        elif name in vocabulary.TEXT:
            yield from self.text(arguments[0], name)
        elif name in vocabulary.MARKED:
            inner = "".join(spelled(self.argument(arguments[0])).split())
            yield Token("name", f"{vocabulary.ACCENTS.get(name, name)}({inner})")
        elif name in vocabulary.MODULO:
            yield Token("operator", "mod")
            yield from self.argument(arguments[0], in_text)
        elif name in vocabulary.OPERATORS:
            text = vocabulary.OPERATORS[name]
            yield Token("space", " ") if text == "space" else Token("operator", text)
        elif name in vocabulary.FUNCTIONS:
            yield Token("function", name)
        elif name in vocabulary.SPOKEN:
            yield Token("text", vocabulary.SPOKEN[name])
        elif name in vocabulary.NAMES:
            yield Token("name", vocabulary.NAMES[name])
        else:
            raise Unreadable(f"\\{name} is not known")

    def see_through(self, node: LatexNode, in_text: bool) -> Iterator[Token]:
        inner = self.argument(node, in_text)
        yield from inner if len(inner) == 1 else [Token("group", "{}", (inner,))]

    def text(self, node: LatexNode, macro: str) -> Iterator[Token]:
        inner = node.nodelist if isinstance(node, LatexGroupNode) else [node]
        blank = [n.macroname in vocabulary.SPACES for n in inner if isinstance(n, LatexMacroNode)]
        plain = "".join(n.chars for n in inner if isinstance(n, LatexCharsNode)).strip() if all(blank) else ""
        if plain in vocabulary.FUNCTIONS:
            yield Token("function", plain)
        elif macro == "mathrm" and plain in ("e", "i", "d"):
            yield Token("name", plain)
        elif len(plain) == 1 and plain.isalpha():
            yield Token("text", plain)
        else:
            yield from self.nodes(inner, in_text=True)

    def environment(self, node: LatexEnvironmentNode) -> Iterator[Token]:
        name = node.environmentname
        flat = list(self.nodes(node.nodelist))
        if name in vocabulary.LAYOUTS or name == "cases" and Token("operator", "&") not in flat:
            kept = [token for token in flat if token != Token("operator", "&")]
            while kept and (kept[-1].kind == "space" or kept[-1].text == "newline"):
                kept.pop()
            yield Token("group", "{}", (nest(kept),))
        elif name in vocabulary.MATRICES:
            rows = [row for row in split(flat, "newline") if any(token.kind != "space" for token in row)]
            yield Token("matrix", name, tuple(tuple(nest(cell) for cell in split(row, "&")) for row in rows))
        else:
            raise Unreadable(f"the environment {name} is not known")


def tokenize(text: str, options: frozenset[str] = frozenset()) -> tuple[Token, ...]:
    """The tokens of `text`.

    Raises:
        Unreadable: for brackets that do not match, macros and signs that are not known.
    """
    text = re.sub(r"(?<!\\)%", r"\%", text)  # nobody writes comments in an answer
    if len(re.findall(r"(?<!\\)\$", text)) % 2:
        text = re.sub(r"(?<!\\)\$", r"\$", text)  # an amount of money, and no formula
    in_text = bool(re.search(r"(?<!\\)\$|\\\(|\\\[", text))  # with formulas marked, the rest is not one
    try:
        walker = LatexWalker(text, latex_context=_context(), tolerant_parsing=False)
        nodes = walker.get_latex_nodes()[0]
        return nest(_french(list(_Flattener(options).nodes(nodes, in_text))))
    except LatexWalkerError as error:
        raise Unreadable(str(error).partition("\n")[0]) from None


def _french(flat: list[Token]) -> list[Token]:
    """`]0,1[` as `(0,1)`: a bracket that faces away from its interval leaves the end out."""
    pieces = split(flat, "cup")
    for piece in pieces:
        marks = [
            n
            for n, token in enumerate(piece)
            if token.kind == "operator" and token.text in vocabulary.OPEN.keys() | vocabulary.CLOSE
        ]
        if len(marks) == 2 and piece[marks[0]].text == "]":
            piece[marks[0]] = Token("operator", "(")
        if len(marks) == 2 and piece[marks[1]].text == "[":
            piece[marks[1]] = Token("operator", ")")
    joined = [token for piece in pieces for token in (Token("operator", "cup"), *piece)]
    return joined[1:]
