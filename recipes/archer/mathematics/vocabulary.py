"""What the macros of LaTeX stand for, and which runs of letters are words. Tables only."""

import re


def words(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi pi varpi rho varrho "
    "sigma varsigma tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega "
    "ell hbar infty emptyset varnothing angle triangle partial nabla Re Im aleph square star"
)
FUNCTIONS = words(
    "sin cos tan cot sec csc sinh cosh tanh coth arcsin arccos arctan arccot arcsec arccsc asin acos atan "
    "ln log lg exp sqrt cbrt fourthroot gcd lcm max min floor ceil abs sum prod int lim"
)
ROOTS = {"sqrt": 2, "cbrt": 3, "fourthroot": 4}
NAMES = {name: name for name in _GREEK.split()} | {"varnothing": "emptyset", "varphi": "phi", "varepsilon": "epsilon"}
SPELLED = {"pi": "pi", "Pi": "pi", "PI": "pi", "infinity": "infty", "inf": "infty", "oo": "infty"} | {
    name: name
    for name in _GREEK.split()[: _GREEK.split().index("ell")]
    if len(name) > 2 and name != "psi"  # pounds per square inch
}
OPERATORS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "slash": "/", "le": "<=", "leq": "<=",
    "leqslant": "<=", "lt": "<",
    "ge": ">=", "geq": ">=", "geqslant": ">=", "gt": ">", "ne": "!=", "neq": "!=", "pm": "pm", "mp": "mp",
    "cup": "cup", "bigcup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus", "in": "in",
    "notin": "notin", "mid": "mid", "approx": "approx", "simeq": "approx", "sim": "sim", "equiv": "equiv", "colon": ":",
    "ldots": "...", "dots": "...", "cdots": "...", "dotsc": "...", "circ": "deg", "degree": "deg",
    "prime": "'", "%": "%",
    "$": "dollar", "to": "to", "rightarrow": "to", "lor": "or", "vee": "or", "land": "and", "wedge": "and", "&": "and",
    "{": r"\{", "}": r"\}", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "langle": "(", "rangle": ")",
    "lfloor": "floor(", "rfloor": "floor)", "lceil": "ceil(", "rceil": "ceil)", "vert": "|", "lvert": "abs(",
    "rvert": "abs)", "|": "norm", "Vert": "norm", "bmod": "mod", "mod": "mod", "\\": "newline", "newline": "newline",
    "quad": "space", "qquad": "space", "euro": "euro", "pounds": "pound", "implies": "implies", "Rightarrow": "implies",
    "perp": "perp", "choose": "choose", "parallel": "parallel", "cong": "cong",
}  # fmt: skip
IGNORED = words(
    "left right middle displaystyle textstyle limits nolimits rm bf it mathstrut boldmath hfill noindent "
    "big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr bigm Bigm large Large"
)
SPOKEN = {"AA": "angstrom", "forall": "for", "therefore": "therefore"}
SPACES = frozenset((",", ";", ":", " ", ">", "enspace", "thinspace", "medspace", "thickspace", "space", "\n", "\t"))
SEE_THROUGH = ("boxed", "fbox", "mathbf", "bm", "boldsymbol", "mathit", "mathnormal", "underline", "ensuremath", "pmb")
TEXT = ("text", "textbf", "textit", "textrm", "textsf", "texttt", "textnormal", "mathrm", "mbox", "hbox", "emph",
         "operatorname", "mathsf", "mathtt", "textup", "operatorname*")  # fmt: skip
ACCENTS = {"overrightarrow": "vec", "widehat": "hat", "overline": "bar", "widetilde": "tilde", "overarc": "wideparen"}
MARKED = ("vec", "hat", "bar", "tilde", "dot", "ddot", "wideparen", "mathcal", "mathbb", "mathfrak", "mathscr",
           "overleftrightarrow", *ACCENTS)  # fmt: skip
MODULO = ("pmod", "pod")
HIDDEN = ("color", "hspace", "vspace", "phantom", "hphantom", "label", "tag")
FRACTIONS = ("frac", "dfrac", "tfrac", "cfrac", "sfrac", "nicefrac")
BINOMIALS = ("binom", "tbinom", "dbinom")
MATRICES = ("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "array", "cases")
LAYOUTS = ("aligned", "align", "align*", "gathered", "gather", "gather*", "split", "equation", "equation*", "alignedat")
OPEN = {"(": ")", "[": "]", r"\{": r"\}", "floor(": "floor)", "ceil(": "ceil)", "abs(": "abs)"}
CLOSE = {closing: opening for opening, closing in OPEN.items()}
INTERVAL = {"(": (")", "]"), "[": (")", "]")}

_VOWEL = re.compile("[aeiou]")
# English in the middle of a formula. What is not here is a product of letters, unless it looks like a word.
SHORT_WORDS = words("and or if is in of at to on no am pm")
SHORT_UNITS = words(
    "cm mm km kg mg ml ft hr mi lb oz yd yr qt pt wk hrs yrs lbs wks gal tsp tbsp bn mln th st nd rd sq cu mpg rpm"
)
# After a number of an answer only: of a ground truth they can be products.
LOOSE_UNITS = words("hp mo kW kWh MW GB MB KB TB dB kN kV kPa kHz MHz GHz gm sqft sqm")
CLEAR_UNITS = words("cm mm km kg")
TIMES = words("min sec")  # after a number they are minutes and seconds, before an argument functions
# Words of scale, in the singular, with their factors.
SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1_000, "lakh": 100_000, "million": 10**6, "mln": 10**6, "crore": 10**7,
    "billion": 10**9, "bn": 10**9, "trillion": 10**12, "quadrillion": 10**15,
}  # fmt: skip
UNITS = {  # unit to (base unit, power, size); plural forms are made singular first
    "mm": ("m", 1, "1/1000"), "cm": ("m", 1, "1/100"), "m": ("m", 1, "1"), "km": ("m", 1, "1000"),
    "inch": ("m", 1, "0.0254"), "foot": ("m", 1, "0.3048"), "yard": ("m", 1, "0.9144"), "mile": ("m", 1, "1609.344"),
    "s": ("s", 1, "1"), "min": ("s", 1, "60"), "d": ("s", 1, "86400"), "h": ("s", 1, "3600"), "day": ("s", 1, "86400"),
    "week": ("s", 1, "604800"), "ms": ("s", 1, "1/1000"), "year": ("year", 1, "1"), "month": ("year", 1, "1/12"),
    "μm": ("m", 1, "1/1000000"), "nm": ("m", 1, "1/1000000000"), "angstrom": ("m", 1, "1/10000000000"),
    "μs": ("s", 1, "1/1000000"), "μg": ("kg", 1, "1/1000000000"), "μL": ("m", 3, "1/1000000000"),
    "mg": ("kg", 1, "1/1000000"), "g": ("kg", 1, "1/1000"), "kg": ("kg", 1, "1"),
    "pound": ("kg", 1, "0.45359237"),
    "ml": ("m", 3, "1/1000000"), "liter": ("m", 3, "1/1000"), "mL": ("m", 3, "1/1000000"), "L": ("m", 3, "1/1000"),
    "l": ("m", 3, "1/1000"),
    "dollar": ("dollar", 1, "1"), "cent": ("dollar", 1, "1/100"), "euro": ("euro", 1, "1"),
    "deg": ("deg", 1, "1"), "radian": ("rad", 1, "1"), "J": ("J", 1, "1"), "kJ": ("J", 1, "1000"), "N": ("N", 1, "1"),
    "W": ("W", 1, "1"), "V": ("V", 1, "1"), "A": ("A", 1, "1"), "K": ("K", 1, "1"), "Hz": ("s", -1, "1"),
    "C": ("C", 1, "1"), "F": ("F", 1, "1"),
    "gallon": ("gallon", 1, "1"), "quart": ("gallon", 1, "1/4"), "pint": ("gallon", 1, "1/8"),
    "mol": ("mol", 1, "1"), "Pa": ("Pa", 1, "1"), "T": ("T", 1, "1"), "eV": ("eV", 1, "1"),
}  # fmt: skip
_UNIT_NAMES = {
    "in": "inch", "inches": "inch", "ft": "foot", "feet": "foot", "yd": "yard", "mi": "mile", "meter": "m",
    "metre": "m",
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "kilometer": "km", "kilometre": "km", "sec": "s",
    "second": "s", "minute": "min", "hr": "h", "hour": "h", "gram": "g", "kilogram": "kg", "lb": "pound",
    "lbs": "pound",
    "litre": "liter", "milliliter": "ml", "degree": "deg", "rad": "radian", "joule": "J", "newton": "N", "watt": "W",
    "volt": "V", "ampere": "A", "kelvin": "K", "celsius": "C", "fahrenheit": "F",
    "buck": "dollar", "usd": "dollar", "gm": "g", "yr": "year", "cents": "cent",
    "wk": "week", "mo": "month", "gal": "gallon", "qt": "quart", "pt": "pint", "oz": "ounce", "tsp": "teaspoon",
    "tbsp": "tablespoon",
}  # fmt: skip
RAISING = {"squared": 2, "cubed": 3}
_ORDINALS = (
    "third quarter fourth fifth sixth seventh eighth ninth tenth twelfth hundredth thousandth millionth billionth"
)
PARTS = words(f"half halves {_ORDINALS} {_ORDINALS.replace(' ', 's ')}s")
# Words after a number with which even a ground truth is no one number: conditions, denials, what is computed with it.
REFUSED = words(
    "or nor not no never if when whenever unless until otherwise provided assuming perhaps maybe and mod modulo where "
    "but plus minus factorial divided multiplied raised choose false wrong incorrect gross mil permille mille"
)
# Words after a number of an answer that say more than what is counted: with them it is another number, or no answer.
ALTERING = (PARTS | REFUSED).union(words(
    "except excluding without less more fewer greater larger smaller bigger least most than even odd prime for with "
    "too true yes only is are was were be over double doubled twice triple tripled thrice halved below above under "
    "beyond short off fold ish percent percentage pct power th st nd rd"
))  # fmt: skip


def scale_of(word: str) -> int | None:
    """The factor that a word stands for: `dozen`, `Million`, `thousands`; None for any other word."""
    return SCALES.get(word.lower()) or SCALES.get(word.lower().removesuffix("s"))


def name_of_unit(word: str) -> str:
    """The name in `UNITS` of a unit in any of its spellings; of any other word, its singular."""
    for form in (word, word.lower(), word.lower().removesuffix("s"), word.lower().removesuffix("es")):
        if form in _UNIT_NAMES or form in UNITS and (len(form) > 1 or form == word):
            return _UNIT_NAMES.get(form, form)
    singular = word.lower().removesuffix("s")
    return singular if len(singular) > 1 else word  # D is no day, and gs are no grams


def is_unit(letters: str) -> bool:
    """Whether a run of letters is the short name of a unit, of two letters at least."""
    known = len(letters) > 1 and name_of_unit(letters) in UNITS and letters != "Nm"
    return known or letters in SHORT_UNITS or letters in LOOSE_UNITS


def is_word(letters: str) -> bool:
    """Whether a run of letters that stands alone is a word and not a product of variables.

    Products are written in the order of the alphabet (abc, xyz) or have no vowel (mgh); the rest are words.
    """
    if len(letters) < 3:
        return letters.lower() in SHORT_WORDS
    product = letters == "".join(sorted(set(letters))) or not _VOWEL.search(letters.lower())
    return not product or letters.lower() in ("for", "mph", "mins", "pct", "cent")
