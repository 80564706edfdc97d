"""Signs that models write in Unicode, as LaTeX or ASCII has them. Pure."""

import re
import unicodedata
from functools import partial

_SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "÷": r"\div ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ",
    "∪": r"\cup ",
    "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ", "∖": r"\setminus ", "∅": r"\emptyset ", "°": r"^\circ ", "±": r"\pm ",
    "∓": r"\mp ", "…": r"\ldots ", "′": "'", "’": "'", "∠": r"\angle ", "△": r"\triangle ",
    "⟨": "(", "⟩": ")", "∗": "*",
    "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
    "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}", "ℂ": r"\mathbb{C}", "→": r"\to ", "⁄": "/", "∣": "|",
    "µ": r"\mu ", "¢": " cents",
}  # fmt: skip
_RAISED = re.compile("[⁰¹²³⁴-⁹⁺⁻ⁿⁱ]+")
_LOWERED = re.compile("[₀-₉₊₋ₙᵢₖ]+")
# A root of a number, or of whatever else as a function has it.
_ROOT = re.compile(r"([√∛∜])\s?((?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?)?")
_INDEX = {"√": "", "∛": "[3]", "∜": "[4]"}
_ROOT_NAME = {"√": " sqrt ", "∛": " cbrt ", "∜": " fourthroot "}
_MOST_KNOWN = 10_000  # signs whose spelling is kept, some MB at most


class _Table(dict[int, str]):
    """Code to what is written for it, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        text = _SIGNS.get(chr(code)) or _ascii(chr(code))
        if len(self) < _MOST_KNOWN:
            self[code] = text
        return text


def _ascii(sign: str) -> str:
    """A sign of another script as LaTeX or ASCII has it: digits, full-width forms, blanks, fractions, Greek."""
    if sign.isascii():
        return sign
    if (digit := unicodedata.decimal(sign, None)) is not None:
        return str(digit)
    if unicodedata.category(sign) == "Zs":
        return " "
    if "\uff01" <= sign <= "\uff5e":
        return chr(ord(sign) - 0xFEE0)
    if unicodedata.category(sign) == "No" and "\u2044" in (form := unicodedata.normalize("NFKC", sign)):
        above, below = form.split("\u2044")
        return rf"\frac{{{above}}}{{{below}}}" if below else sign
    if "\u0391" <= sign <= "\u03c9":
        size, _, letter = unicodedata.name(sign, "").removeprefix("GREEK ").partition(" LETTER ")
        return f"\\{letter.capitalize() if size == 'CAPITAL' else letter.lower()} "
    return sign


_TABLE = _Table()


def in_latex(text: str) -> str:
    """`text` with the signs that Unicode has and LaTeX writes in letters."""
    if text.isascii():
        return text
    for pattern, mark in ((_RAISED, "^"), (_LOWERED, "_")):
        text = pattern.sub(partial(_script, mark), text)
    return _ROOT.sub(_root, text).translate(_TABLE)


def _root(match: re.Match[str]) -> str:
    sign, number = match.groups()
    return rf"\sqrt{_INDEX[sign]}{{{number}}}" if number else _ROOT_NAME[sign]


def _script(mark: str, match: re.Match[str]) -> str:
    text = unicodedata.normalize("NFKC", match.group()).replace("−", "-")
    return f"{mark}{text}" if len(text) == 1 else f"{mark}{{{text}}}"
