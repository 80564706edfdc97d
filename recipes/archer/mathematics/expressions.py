"""One expression: tokens to a SymPy tree, unevaluated, by way of math-verify's grammar.

The grammar gets every expression in a spelling that it can read in one way only: products written out, variables
marked, whatever is not plain arithmetic replaced by a stand-in. It evaluates nothing, and neither does this.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import sympy
from antlr4 import Token as AntlrToken
from antlr4.atn.PredictionMode import PredictionMode
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
from sympy import Basic, Expr, Function, Rational, Symbol

from recipes.archer.mathematics.exact import rebuilt
from recipes.archer.mathematics.numerals import grouped, mixed
from recipes.archer.mathematics.tokens import APPLIED, Token, Unreadable, is_applied, spelled, split
from recipes.archer.mathematics.vocabulary import ROOTS, words

CONSTANTS = {"pi": sympy.pi, "e": sympy.E, "infty": sympy.oo}
_OF_THE_GRAMMAR = words("sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh ln exp")
_INVERSE = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot"}
_SYNONYMS = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
_OF_MANY = ("gcd", "lcm", "max", "min")
_DIFFERENTIAL = (
    re.compile(r"(d|partial)(\^\w+)?[A-Za-z].*"),
    re.compile(r"(d|partial)[A-Za-z](\^\w+|\^{}<\w+>)?"),
)
_MAX_TEN_POWER = 9_999


class _Grammar(_Latex2Sympy):  # type: ignore[misc]  # it has no types
    """math-verify's grammar (latex2sympy2_extended 1.11), asked for one expression.

    Its own entry point tries sets, tuples and relations over the whole text at every bracket, and antlr's
    full-context prediction costs ten times what SLL does; neither is needed where nothing is ambiguous.
    """

    def expression(self, text: str) -> Expr:
        parser = self.create_parser(text)
        parser._interp.predictionMode = PredictionMode.SLL
        tree = parser.expr()
        if parser.getCurrentToken().type != AntlrToken.EOF:
            raise Unreadable("it is not one expression")
        return self.convert_expr(tree)


_GRAMMAR = _Grammar(config=ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False))


def _bare(token: Token) -> str:
    return spelled(token.parts[0]) if token.kind == "group" and token.text == "{}" else spelled([token])


@dataclass
class Speller:
    """Tokens to an expression.

    Attributes:
        degrees: whether degrees are converted; they are in a function, and outside they are a unit.
        digits: significant digits of the longest decimal so far.
    """

    degrees: bool = False
    digits: int = 0
    stand_ins: dict[Basic, Basic] = field(default_factory=dict)

    def expression(self, tokens: Sequence[Token]) -> Expr:
        """The expression that `tokens` are, all of them.

        Raises:
            Unreadable: for anything but one expression.
        """
        tokens = [token for token in mixed(grouped(tokens, commas=True)) if token.kind != "space"]
        if not tokens:
            raise Unreadable("something is missing")
        if len(sides := split(tokens, "choose")) == 2:
            tokens = [Token("binom", "binom", tuple(map(tuple, sides)))]
        text = self._spell(tokens)
        try:
            tree = _GRAMMAR.expression(text)
        except (Unreadable, RecursionError, MemoryError):
            raise
        except Exception as error:  # the grammar raises plain exceptions
            raise Unreadable(f"the grammar refuses it ({type(error).__name__})") from None
        if not isinstance(tree, Expr):
            raise Unreadable("it is not an expression")
        return rebuilt(tree, self.stand_ins)

    def _inner(self, tokens: Sequence[Token], degrees: bool | None = None) -> Expr:
        speller = Speller(self.degrees if degrees is None else degrees)
        value = speller.expression(tokens)
        self.digits = max(self.digits, speller.digits)
        return value

    def _stand_in(self, value: Basic) -> str:
        symbol = Symbol(f"s{len(self.stand_ins)}")
        self.stand_ins[symbol] = value
        return rf"\variable{{{symbol.name}}}"

    def _spell(self, tokens: list[Token]) -> str:
        pieces: list[str] = []
        before = ""  # the kind of the operand before, if there is one
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.kind == "operator" and token.text in "+-*/":
                pieces.append(r"\cdot " if token.text == "*" else token.text)
                before, position = "", position + 1
            elif token.kind == "operator" and token.text in ("^", "!", "%", "deg") and before:
                position, pieces[-1] = self._postfix(tokens, position, pieces[-1])
                before = "power"
            elif before == "number" and token.kind == "number":
                raise Unreadable("two numbers side by side")
            else:
                pieces += [r"\cdot "] if before else []
                position, piece = self._operand(tokens, position)
                raised = (
                    position < len(tokens) and tokens[position].text in ("^", "!") and token.kind in ("frac", "sqrt")
                )
                pieces.append(f"({piece})" if raised else piece)
                before = token.kind
        return "".join(pieces)

    def _postfix(self, tokens: list[Token], position: int, base: str) -> tuple[int, str]:
        sign, position = tokens[position].text, position + 1
        if sign == "!":
            return position, f"({base}!)"
        if sign == "%":
            return position, rf"\frac{{{base}}}{{100}}"
        if sign == "deg":
            return position, self._angle(base)
        minus = position < len(tokens) and tokens[position].text == "-"
        position += minus
        if position >= len(tokens):
            raise Unreadable("an exponent is missing")
        if _bare(tokens[position]) == "deg":
            return position + 1, self._angle(base)
        position, exponent = self._operand(tokens, position)
        if position < len(tokens) and tokens[position].text == "^":
            position, exponent = self._postfix(tokens, position, exponent)
        return position, f"{base}^{{{'-' if minus else ''}{exponent}}}"

    def _angle(self, number: str) -> str:
        return rf"({number}\cdot {self._stand_in(sympy.pi / 180)})" if self.degrees else number

    def _operand(self, tokens: list[Token], position: int) -> tuple[int, str]:
        token, after = tokens[position], position + 1
        if token.kind == "number":
            return after, self._number(token.text)
        if token.kind in ("name", "text"):
            return self._name(tokens, position)
        if token.kind == "function":
            return self._function(tokens, position)
        if token.kind == "frac":
            above, below = map(spelled, token.parts)
            if _DIFFERENTIAL[0].fullmatch(above) and _DIFFERENTIAL[1].fullmatch(below):
                return after, self._stand_in(Symbol(f"{above}/{below}"))
            above, below = (self._stand_in(self._inner(part)) for part in token.parts)
            return after, rf"\frac{{{above}}}{{{below}}}"
        if token.kind == "sqrt":
            radicand, index = token.parts
            root = f"[{self._stand_in(self._inner(index))}]" if index else ""
            return after, rf"\sqrt{root}{{{self._stand_in(self._inner(radicand))}}}"
        if token.kind == "binom":
            return after, self._stand_in(Function("binom")(*map(self._inner, token.parts)))
        if token.kind == "group" and token.text in ("()", "[]", "{}"):
            return after, self._stand_in(self._inner(token.parts[0]))
        if token.kind == "group" and "(" in token.text and len(token.text) > 2:
            return after, self._stand_in(Function(token.text.partition("(")[0])(self._inner(token.parts[0])))
        if token.kind == "matrix" and token.text == "vmatrix":
            return after, self._stand_in(self._determinant(token))
        raise Unreadable(f"{token.text!r} is out of place")

    def _determinant(self, token: Token) -> Expr:
        rows = [[self._inner(cell) for cell in row] for row in token.parts]
        if len(rows) > 3 or any(len(row) != len(rows) for row in rows):
            raise Unreadable("a determinant of more than 3 rows, or not of a square")
        return sympy.Matrix(rows).det(method="berkowitz")

    def _number(self, text: str) -> str:
        mantissa, _, exponent = text.lower().partition("e")
        if text.isdigit():
            return text.lstrip("0") or "0"
        if exponent and abs(int(exponent)) > _MAX_TEN_POWER:
            raise Unreadable(f"a power of ten beyond {_MAX_TEN_POWER}")
        if "." in mantissa:
            self.digits = max(self.digits, len(mantissa.replace(".", "").lstrip("0")))
        return self._stand_in(Rational(Fraction(mantissa) * Fraction(10) ** int(exponent or 0)))

    def _name(self, tokens: list[Token], position: int) -> tuple[int, str]:
        name, position = tokens[position].text, position + 1
        if tokens[position - 1].kind == "text" and len(name) > 1:
            raise Unreadable(f"the word {name!r} in an expression")
        if [token.text for token in tokens[position : position + 3 : 2]] == ["^", "_"]:  # x^2_1 is x_1^2
            tokens[position : position + 4] = tokens[position + 2 : position + 4] + tokens[position : position + 2]
        while position < len(tokens) and tokens[position].text in ("'", "_"):
            if tokens[position].text == "_":
                position += 1
                if position >= len(tokens):
                    raise Unreadable("a subscript is missing")
                name += f"_{_bare(tokens[position])}"
            else:
                name += "'"
            position += 1
        ahead = tokens[position : position + 3]
        if (
            name.startswith("mathbb")
            and len(ahead) == 2
            and ahead[0].text == "^"
            and _bare(ahead[1]) in ("+", "-", "*")
        ):
            name, position = f"{name}^{_bare(ahead[1])}", position + 2
        if name in APPLIED and len(ahead) == 3 and spelled(ahead[:2]) == "^{}<-1>" and ahead[2].text == "()":
            name, position = f"{name}^-1", position + 2
        argument = tokens[position] if position < len(tokens) else None
        if argument is not None and argument.text == "()" and is_applied(name.removesuffix("^-1"), argument):
            return position + 1, self._stand_in(Symbol(f"{name}({spelled(argument.parts[0])})"))
        return position, self._stand_in(CONSTANTS.get(name, Symbol(name)))

    def _function(self, tokens: list[Token], position: int) -> tuple[int, str]:
        name, position = _SYNONYMS.get(tokens[position].text, tokens[position].text), position + 1
        if name in ("sum", "prod", "int", "lim"):
            return self._big(name, tokens, position)
        base = power = None
        while position + 1 < len(tokens) and tokens[position].text in ("_", "^"):
            if tokens[position].text == "_":
                base = (tokens[position + 1],)
            else:
                power = (tokens[position + 1],)
            position += 2
        if power and _bare(power[0]) == "-1" and name in _INVERSE:
            name, power = _INVERSE[name], None
        position, argument = self._argument(tokens, position, name)
        if name in _OF_MANY:
            values = [self._inner(part) for part in split(argument, ",")]
            if len(values) < 2:
                raise Unreadable(f"{name} of one value")
            piece = self._stand_in(Function(name)(*values))
        elif name in ROOTS:
            piece = rf"\sqrt[{ROOTS[name]}]{{{self._stand_in(self._inner(argument))}}}"
        elif name in ("log", "lg"):
            base_text = self._stand_in(self._inner(base)) if base else "10"
            piece = rf"\log_{{{base_text}}}({self._stand_in(self._inner(argument))})"
        elif name in _OF_THE_GRAMMAR:
            piece = rf"\{name}({self._stand_in(self._inner(argument, degrees=True))})"
        else:
            piece = self._stand_in(Function(name)(self._inner(argument)))
        return position, piece if power is None else f"({piece})^{{{self._stand_in(self._inner(power))}}}"

    def _argument(self, tokens: list[Token], position: int, name: str) -> tuple[int, Sequence[Token]]:
        """What a function is applied to: a bracket, or the product that follows up to the next function."""
        if (
            position < len(tokens)
            and tokens[position].kind == "group"
            and tokens[position].text in ("()", "{}", "[]", r"\{\}")
        ):
            return position + 1, tokens[position].parts[0]
        end = position
        while end < len(tokens) and (tokens[end].kind != "function" or end == position):
            ends = tokens[end].text in ("+", "*") or tokens[end].text == "-" and end > position
            if tokens[end].kind == "operator" and ends:
                break
            end += 1
            if name in (*ROOTS, *_OF_MANY):
                break
        return end, tokens[position:end]

    def _big(self, name: str, tokens: list[Token], position: int) -> tuple[int, str]:
        """A sum or product over a range, or a definite integral."""
        bounds: dict[str, Token] = {}
        while position + 1 < len(tokens) and tokens[position].text in ("_", "^"):
            bounds[tokens[position].text] = tokens[position + 1]
            position += 2
        if name == "lim" or len(bounds) != 2:
            raise Unreadable(f"{name} without its bounds")
        lower = bounds["_"].parts[0] if bounds["_"].parts else (bounds["_"],)
        upper = self._inner((bounds["^"],))
        if name == "int":
            ends = [
                n for n in range(position, len(tokens) - 1) if tokens[n].text == "d" and tokens[n + 1].kind == "name"
            ]
            if not ends:
                raise Unreadable("an integral without its variable")
            body, variable, position_after = tokens[position : ends[-1]], tokens[ends[-1] + 1].text, ends[-1] + 2
        else:
            variable_part, *start = split(lower, "=")
            if len(start) != 1:
                raise Unreadable(f"{name} without its range")
            variable, lower = spelled(variable_part), start[0]
            ends = [n for n in range(position, len(tokens)) if tokens[n].kind == "operator" and tokens[n].text in "+-"]
            position_after = ends[0] if ends else len(tokens)
            body = tokens[position:position_after]
        inner = self._inner(body) if body else sympy.Integer(1)
        return position_after, self._stand_in(Function(name)(inner, Symbol(variable), self._inner(lower), upper))
