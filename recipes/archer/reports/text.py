"""Long texts of a model, cut to what a report shows."""

HEAD, TAIL = 3000, 1000  # characters of a long response that a report shows


def shortened(text: str, head: int = HEAD, tail: int = TAIL) -> str:
    """The text, or its beginning and end with a note of how much is left out between them."""
    left_out = len(text) - head - tail
    if left_out <= 0:
        return text
    return f"{text[:head]}\n[… {left_out:,} characters left out …]\n{text[-tail:]}"
