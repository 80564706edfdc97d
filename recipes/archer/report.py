"""What the user sees of a run while it goes on and when it ends: rows, samples, progress, table, picture."""

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.archer.ending import Ending
from recipes.archer.run_log import RunLog
from recipes.archer.trackers import Trackers

SHOWN = {
    "acc": ("reward/accuracy/mean", "{:.2f}"),
    "val": ("val/accuracy", "{:.2f}"),
    "entropy": ("actor/entropy", "{:.2f}"),
    "len": ("response_length/mean", "{:.0f}"),
    "valid": ("batch/valid", "{:d}"),
    "kl": ("actor/kl_loss", "{:.3f}"),
    "grad": ("actor/grad_norm", "{:.2f}"),
    "s/step": ("timing_s/step", "{:.1f}"),
}


def summary(row: dict) -> str:
    """The figures that matter, as one line."""
    return "  ".join(
        f"{name} {form.format(row[key])}" for name, (key, form) in SHOWN.items() if row.get(key) is not None
    )


class Report:
    """Writes the run folder and tells the trackers and the terminal.

    Args:
        log: the run folder's writer.
        trackers: where metrics go besides.
        settings: the configuration's ``trainer`` section.
        total_steps: of the whole run.
    """

    def __init__(self, log: RunLog, trackers: Trackers, settings, total_steps: int):
        self.log, self.trackers, self.settings = log, trackers, settings
        self.total_steps, self.last_row = total_steps, None
        self._shown = "console" in settings.logger
        self.console = Console(file=sys.__stdout__, highlight=False, soft_wrap=True)
        self._bar = _Bar(self.console, total_steps) if self._shown and sys.__stdout__.isatty() else None

    def say(self, text: str) -> None:
        """A line for the user, above the progress bar."""
        self.console.print(text, markup=False)

    def continuing(self, checkpoint) -> None:
        """The run goes on from a checkpoint."""
        self.say(f"continuing after step {checkpoint.step} from {checkpoint.path}")

    def before_training(self, metrics: dict) -> None:
        """Validation of the untrained model."""
        self.log.note(val_before=metrics)
        self.say(f"before training: held-out accuracy {metrics['val/accuracy']:.3f}")

    def step(self, number: int, row: dict, rounds) -> None:
        """One step is done."""
        self.last_row = row
        self.log.write(row)
        self.trackers.log(row, number)
        if number in (1, self.total_steps) or number % self.settings.samples_freq == 0:
            self.log.samples(number, sample_rows(number, rounds, self.settings.samples_per_step))
        if self._bar:
            self._bar.update(number, summary(row))
        elif self._shown:
            self.say(f"step {number}/{self.total_steps}  {summary(row)}")

    def verdicts(self, decision, summary: dict | None) -> None:
        """What the guard has to say, once for each new verdict; its summary goes into run.json."""
        for verdict in decision.verdicts:
            self.say(f"guard: {verdict}")
        if decision.verdicts or decision.stop:
            self.log.note(verdict=summary)

    def saved(self, step: int, seconds: float) -> None:
        """A checkpoint is whole on disk."""
        self.log.note(last_checkpoint=step, save_s=round(seconds, 3))

    def end(self, ending: Ending) -> None:
        """Table, picture, and where to look next."""
        if self._bar:
            self._bar.close()
        self.trackers.finish(ending.exit_code)
        rows = self.log.rows()
        self.log.close(ending)
        if rows:
            from recipes.archer.curves import end_table, plot_curves  # matplotlib takes a second to import

            plot_curves(rows, self.log.folder / "curves.png", title=self.settings.experiment_name)
            self.console.print(end_table(rows))
        self.say(f"{ending.status}: {ending.reason}")
        self.say(f"run folder {self.log.folder} (curves.png, metrics.jsonl, samples/); archer report {self.log.folder}")


class _Bar:
    """Progress over the steps, with the last row's figures."""

    def __init__(self, console: Console, total: int):
        text = TextColumn("{task.description}")
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(20), TimeRemainingColumn(), text)
        self._progress = Progress(*columns, console=console)
        self._task = self._progress.add_task("", total=total)
        self._progress.start()

    def update(self, step: int, text: str) -> None:
        self._progress.update(self._task, completed=step, description=text)

    def close(self) -> None:
        self._progress.stop()


def sample_rows(step: int, rounds, number: int) -> list[dict]:
    """The first responses of a step, whole groups first, with their grades."""
    rows = []
    for r in rounds:
        columns, lengths = r.batch.non_tensor_batch, r.batch.batch["response_mask"].sum(-1).tolist()
        for i in range(min(len(r.batch), number - len(rows))):
            rows.append(
                {
                    "step": step,
                    "prompt": _prompt_text(columns, i),
                    "response": r.rewards.texts[i],
                    "ground_truth": columns["reward_model"][i]["ground_truth"],
                    "answer": r.rewards.answers[i],
                    "outcome": r.rewards.outcomes[i],
                    "score": float(r.rewards.correct[i]),
                    "reward": float(r.rewards.total[i]),
                    "length": lengths[i],
                    "truncated": r.truncated[i],
                }
            )
    return rows


def _prompt_text(columns: dict, i: int) -> str:
    return "\n".join(message["content"] for message in columns["messages"][i])

