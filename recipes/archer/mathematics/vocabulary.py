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
    "ln log lg exp sqrt cbrt gcd lcm max min floor ceil abs sum prod int lim"
)
NAMES = {name: name for name in _GREEK.split()} | {"varnothing": "emptyset", "varphi": "phi", "varepsilon": "epsilon"}
SPELLED = {"pi": "pi", "infinity": "infty", "inf": "infty", "oo": "infty"} | {
    name: name for name in ("theta", "alpha", "beta", "gamma", "lambda", "sigma", "omega", "phi")
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
SHORT_UNITS = words("cm mm km kg mg ml ft hr mi lb oz yd yr qt pt wk hrs yrs lbs wks gal tsp tbsp bn mln th st nd rd")
CLEAR_UNITS = words("cm mm km kg")
TIMES = words("min sec")  # after a number they are minutes and seconds, before an argument functions
# Words of scale, in the singular, with their factors.
SCALES = {
    "dozen": 12, "hundred": 100, "thousand": 1_000, "lakh": 100_000, "million": 10**6, "mln": 10**6, "crore": 10**7,
    "billion": 10**9, "bn": 10**9, "trillion": 10**12, "quadrillion": 10**15,
}  # fmt: skip
RAISING = {"squared": 2, "cubed": 3}
_PARTS = (
    "half third quarter fourth fifth sixth seventh eighth ninth tenth twelfth hundredth thousandth millionth billionth"
)
# Words after a number that say more than what is counted: with them it is another number, or no answer.
ALTERING = words(
    "or nor not no never if when whenever unless until except excluding without otherwise provided assuming perhaps "
    "maybe and less more fewer greater larger smaller bigger least most than even odd prime mod modulo for where with too "
    "true false yes only is are was were be but plus minus factorial divided multiplied over raised choose "
    "double doubled twice triple tripled thrice halved halves below above under beyond short off fold ish gross mil "
    "wrong incorrect percent percentage pct permille th st nd rd "
    f"{_PARTS} {_PARTS.replace(' ', 's ')}s"
)


def scale_of(word: str) -> int | None:
    """The factor that a word stands for: `dozen`, `Million`, `thousands`; None for any other word."""
    return SCALES.get(word.lower()) or SCALES.get(word.lower().removesuffix("s"))


def is_word(letters: str) -> bool:
    """Whether a run of letters that stands alone is a word and not a product of variables.

    Products are written in the order of the alphabet (abc, xyz) or have no vowel (mgh); the rest are words.
    """
    if len(letters) < 3:
        return letters.lower() in SHORT_WORDS
    product = letters == "".join(sorted(set(letters))) or not _VOWEL.search(letters.lower())
    return not product or letters.lower() in ("for", "mph", "mins", "pct")
