"""Whether a response has the form asked for: its thinking closed, then exactly one final box. Pure."""

from recipes.archer.grading.answers import THINK_END, final_text, last_boxed

_THINK_START = "<think>"
_BOX = "\\boxed"


def format_is_right(response: str) -> bool:
    r"""Whether `response` is one closed think block followed by text with exactly one `\boxed{…}`.

    The opening `<think>` may be missing, as it is where the chat template ends the prompt with it; where
    it is there, it comes first. The box must be closed and hold something.
    """
    if response.count(THINK_END) != 1:
        return False
    thinking = response.partition(THINK_END)[0]
    starts = thinking.count(_THINK_START)
    if starts > 1 or (starts == 1 and not thinking.lstrip().startswith(_THINK_START)):
        return False
    conclusion = final_text(response)
    if _THINK_START in conclusion:
        return False
    return conclusion.count(_BOX) == 1 and last_boxed(conclusion) is not None
