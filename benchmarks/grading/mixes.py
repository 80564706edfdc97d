"""Batches of responses to time the grader with. Seeded."""

import json
import random
from pathlib import Path

PAIRS_FILE = Path(__file__).with_name("pairs.jsonl")
RESPONSES_PER_PROMPT = 16
_THINKING = "We set up the problem and look at small cases first. " * 80  # some 1,000 tokens

# Each passes the input limits or not as the comment says; {n} makes every row its own check.
HOSTILE = (
    "9^{{9^{{{n}}}}}",  # passes
    "(({n}^{{9999}})^{{9999}})^{{9999}}",  # passes
    r"\binom{{1{n}0000000000}}{{5{n}000000000}}",  # passes
    "(x+y+z+{n})^{{5000}}",  # passes
    r"\frac{{x^{{9{n}}}-1}}{{x-{n}}}+\sqrt{{x^{{9999}}+{n}}}",  # passes
    "((({n}!)!)!)!",  # refused
    "{n}^{{9^{{9^{{9^{{9}}}}}}}}",  # refused
    "{digits}{n}",  # 200,000 digits, refused
    "{opening}{n}{closing}",  # 20,000 brackets, refused
    "__import__('os').system('touch hostile{n}')",  # passes, and is not mathematics
)


def load_pairs() -> list[dict]:
    """The (category, gold, prediction, expected) pairs."""
    return [json.loads(line) for line in PAIRS_FILE.read_text(encoding="utf-8").splitlines()]


def respond(answer: str) -> str:
    """A response of ordinary length that gives `answer`."""
    return rf"<think>{_THINKING}</think>Therefore the answer is \boxed{{{answer}}}."


def easy(num_rows: int) -> tuple[list[str], list[str]]:
    """Contest integers: half of the responses right."""
    source = random.Random(0)
    golds = [str(source.randrange(1000)) for _ in range(num_rows // RESPONSES_PER_PROMPT)]
    truths = [gold for gold in golds for _ in range(RESPONSES_PER_PROMPT)]
    answers = [gold if source.random() < 0.5 else str(source.randrange(1000)) for gold in truths]
    return [respond(answer) for answer in answers], truths


def ordinary(num_rows: int) -> tuple[list[str], list[str]]:
    """Ground truths of every kind and what is written against them: the pairs, prompt by prompt.

    Of the prompts half have an integer for an answer, as a training set of contest problems has more; of
    a prompt's responses half are right, in the spellings of the list or word for word, and of the wrong
    ones each writes a number of its own or a near miss of the list.
    """
    source = random.Random(1)
    by_gold: dict[str, list[dict]] = {}
    for pair in load_pairs():
        by_gold.setdefault(pair["gold"], []).append(pair)
    golds = sorted(by_gold)
    responses, truths = [], []
    for prompt in range(num_rows // RESPONSES_PER_PROMPT):
        gold = str(source.randrange(10_000)) if prompt % 2 else source.choice(golds)
        pairs = by_gold.get(gold, [])
        right = [pair["prediction"] for pair in pairs if pair["expected"]] + [gold]
        wrong = [pair["prediction"] for pair in pairs if not pair["expected"]]
        for _ in range(RESPONSES_PER_PROMPT):
            other = [*wrong, str(source.randrange(10_000)), rf"\frac{{{source.randrange(1, 99)}}}{{7}}"]
            responses.append(respond(source.choice(right if source.random() < 0.5 else other)))
            truths.append(gold)
    return responses, truths


def hard(num_rows: int) -> tuple[list[str], list[str]]:
    """No two rows alike, and each needs algebra: factored against expanded, nested against plain radicals."""
    source = random.Random(2)
    responses, truths = [], []
    for row in range(num_rows):
        a, b, c = (source.randrange(2, 99) for _ in range(3))
        if row % 2:
            truths.append(f"x^2+{a + b}x+{a * b}")
            responses.append(respond(f"(x+{a})(x+{b if source.random() < 0.5 else b + 1})"))
        else:
            truths.append(rf"{a}\sqrt{{{b}}}+{c}")
            responses.append(respond(rf"{c}+\sqrt{{{a * a * b}}}"))
    return responses, truths


# Answers as data sets have them, by kind. A wrong one is one of these with one digit, sign or letter changed.
NATURAL = {
    "integer": ("42", "1024", "2025", "10080"),
    "fraction": (r"\frac{3}{56}", r"-\frac{35}{9}", r"\frac{2023}{2024}", "14/3"),
    "decimal": ("10.8", "0.0625", r"1.2\times10^{4}", "3.14"),
    "radical": (r"3\sqrt{13}", r"\frac{9\sqrt{3}+21}{4}", r"\sqrt{5+2\sqrt{6}}", r"2\sqrt[3]{16}-1"),
    "pi, e, logarithms": (r"\frac{7\pi}{12}", r"12\pi-9\sqrt{3}", r"\frac{e^{2}-1}{4}", r"\log_2 3+5\ln 7"),
    "power and factorial": (
        r"2^{2024}-1",
        r"\frac{100!}{50!50!}",
        r"1-\left(\frac{5}{6}\right)^{20}",
        r"\binom{20}{7}",
    ),
    "polynomial": ("x^4-4x^3+6x^2-4x+1", "(x-2)(x+5)", "3x^2y-7xy^2+2", "2n^2-3n+14"),
    "function": (r"\frac{x+2}{x^2-9}", r"\frac{n(n+1)}{2}", r"3\cdot 2^{n-1}+5", r"2\sin^2 x\cos 3x"),
    "equation": ("y=2x+3", "(x-1)^2+(y+2)^2=9", r"\frac{x^2}{4}+\frac{y^2}{3}=1", "f(x)=3x-7"),
    "interval": ("[-2,7]", r"(-\infty,2)\cup(3,\infty)", r"x\ge\frac{13}{4}", r"\left(-\frac{1}{2},0\right]"),
    "list": ("1,3,5", r"\{-2,\frac{1}{3}\}", r"1\pm\sqrt{19}", r"x=2\text{ or }x=-7"),
    "tuple": (r"(3,\frac{\pi}{2})", "(6,31,-1)", "(2,3),(3,2)", r"(-\frac{1}{3},\frac{2}{3})"),
    "matrix": (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}-\frac{1}{3}\\5\end{pmatrix}"),
    "complex": ("3-4i", r"\frac{1+7i}{2}", r"2e^{i\pi/3}", "-2+7i"),
    "unit": (r"12\text{ cm}^2", r"90^\circ", r"45\%", r"\$32,348"),
}


def natural_wrong(kind: str, num_rows: int) -> tuple[list[str], list[str]]:
    """Answers, not responses, of one kind with one sign changed, no two alike, and their ground truths."""
    source = random.Random(kind)
    answers: dict[str, str] = {}
    while len(answers) < num_rows:
        gold = source.choice(NATURAL[kind])
        place = source.choice([n for n, sign in enumerate(gold) if sign.isdigit()])
        answer = f"{gold[:place]}{source.randrange(1, 10 ** source.randrange(1, 5))}{gold[place + 1 :]}"
        if answer != gold:
            answers[answer] = gold
    return list(answers), list(answers.values())


def hostile(num_rows: int) -> tuple[list[str], list[str], list[bool]]:
    """Every other row hostile, the others honest and right; the third list says which are honest."""
    responses, truths, honest = [], [], []
    filling = {"digits": "7" * 200_000, "opening": "(" * 20_000, "closing": ")" * 20_000}
    for row in range(num_rows):
        honest.append(row % 2 == 0)
        truths.append(rf"\frac{{{row + 1}}}{{3}}+\sqrt{{2}}")
        answer = rf"\sqrt{{2}}+\frac{{{2 * row + 2}}}{{6}}"
        if not honest[-1]:
            answer = HOSTILE[row // 2 % len(HOSTILE)].format(n=row + 7, **filling)
        responses.append(respond(answer))
    return responses, truths, honest
