"""What was measured of the head, as a table."""


def table(result: dict) -> str:
    """Markdown: a row a size and way."""
    heading = ("tokens", "way", "seconds", "peak memory above the inputs, GB", "greatest error")
    lines = [heading, ("---",) * len(heading)]
    for tokens, ways in sorted(result["sizes"].items(), key=lambda item: int(item[0])):
        for way, figures in ways.items():
            if figures is None:
                lines.append((f"{int(tokens):,}", way, "does not fit", "", ""))
                continue
            ratios = ("", "") if way == "plain" else (figures.get("time_ratio"), figures.get("memory_ratio"))
            seconds, memory = (
                f"{value} (×{ratio})" if ratio else f"{value}"
                for value, ratio in zip((figures["seconds"], figures["peak_above_inputs_gb"]), ratios, strict=True)
            )
            error = f"{max(figures['error'].values()):.1e}" if "error" in figures else ""
            lines.append((f"{int(tokens):,}", way, seconds, memory, error))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
