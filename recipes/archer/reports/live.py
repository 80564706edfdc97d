"""What the user sees of a run while it goes on and when it ends: rows, samples, progress, table, picture."""

import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recipes.archer.ending import FAILED, Ending
from recipes.archer.files import write_atomically
from recipes.archer.printable import complain
from recipes.archer.reports.terminal import PrintableConsole
from recipes.archer.runs.folder import Run, read_branches
from recipes.archer.runs.log import RunLog
from recipes.archer.runs.trackers import Trackers, existing
from recipes.archer.session.output import BestEffort

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
        out = BestEffort(sys.__stdout__)
        self.console = PrintableConsole(file=out, highlight=False, soft_wrap=True)
        self._bar = _Bar(self.console, total_steps) if self._shown and out.isatty() else None
        every = settings.console_metrics == "all" or (settings.console_metrics == "auto" and not out.isatty())
        self._every_metric = self._shown and every

    def say(self, text: str) -> None:
        """A line for the user, above the progress bar."""
        self.console.print(text, markup=False)

    def continuing(self, checkpoint) -> None:
        """The run goes on from a checkpoint."""
        self.say(f"continuing after step {checkpoint.step} from {checkpoint.path}")

    def before_training(self, metrics: dict) -> None:
        """Validation of the untrained model."""
        self._note(val_before=metrics)
        self.say(f"before training: held-out accuracy {metrics['val/accuracy']:.3f}")

    def step(self, number: int, row: dict, rounds) -> None:
        """One step is done."""
        self.last_row = row
        try:
            self.log.write(row)
            if number in (1, self.total_steps) or number % self.settings.samples_freq == 0:
                self.log.samples(number, sample_rows(number, rounds, self.settings.samples_per_step))
        except OSError as error:  # a full disk: rows wait for the next step, samples are lost
            self.warn(f"step {number} could not be written into {self.log.folder}: {error.strerror}")
        self.trackers.log(row, number)
        if self._bar:
            self._bar.update(number, summary(row))
        elif self._shown:
            self.say(f"step {number}/{self.total_steps}  {summary(row)}")
        if self._every_metric:
            self.say(f"step {number} " + " ".join(f"{key}={value}" for key, value in existing(row).items()))

    def verdicts(self, decision, summary: dict | None) -> None:
        """What the guard has to say, once for each new verdict; the trackers hear it, too.

        Args:
            summary: the present verdict, for run.json; None where the guard is off.
        """
        self.log.run["verdict"] = summary  # written with the next note, at the latest when the run ends
        for verdict in decision.verdicts:
            self.say(f"guard: {verdict}")
        if decision.verdicts or decision.stop:
            reason = decision.reason or "; ".join(map(str, decision.verdicts))
            told = {"guard/verdict": summary["exit_code"], "guard/reason": reason}
            self.trackers.log(told, self.last_row["step"])
            self._note()

    def saved(self, step: int, seconds: float, best: Path | None = None) -> None:
        """A checkpoint is whole on disk; ``best`` is the best so far, where one is kept."""
        self.log.saved()
        best_name = best.name if best is not None else None
        in_all = self.log.run.get("all_saves_s", 0.0) + seconds
        times = {"save_s": round(seconds, 3), "all_saves_s": round(in_all, 3)}
        self._note(last_checkpoint=step, best_checkpoint=best_name, failed_saves=0, **times)

    def not_saved(self, step: int, why: str, number: int, most: int) -> None:
        """A checkpoint could not be written, the ``number``-th in a row; the run goes on until the ``most``-th."""
        self.warn(f"checkpoint of step {step} not saved: {why}; {number} in a row, trainer.max_failed_saves={most}")
        self._note(failed_saves=number)

    def warn(self, text: str) -> None:
        """Something that the user should know of and that does not end the run."""
        complain(f"warning: {text}")

    def rows_are_safe(self) -> None:
        """Returns once every row so far is on the disk.

        Raises:
            OSError: it has no room for them.
        """
        self.log.sync()
        self.trackers.settle()

    def _note(self, **facts) -> None:
        with suppress(OSError):  # the disk may have no room for this either; the next note brings it along
            self.log.note(**facts)

    def broke_off(self, exit_code: int = FAILED) -> None:
        """This attempt is over, the run may not be; the trackers get what they do not have yet."""
        if self._bar:
            self._bar.close()
        self.trackers.finish(exit_code, self.settings.tracker_grace_s)

    def end(self, ending: Ending) -> None:
        """Table, picture, and where to look next; what goes wrong with them does not change how the run ended."""
        self.log.ended(ending)  # before the wait for trackers, in which a cluster's patience may end
        try:
            if self._bar:
                self._bar.close()
            self.trackers.finish(ending.exit_code, self.settings.tracker_grace_s)
            self._show_end(ending)
        except Exception as error:
            self.warn(f"the end could not be shown ({type(error).__name__}: {error})")

    def _show_end(self, ending: Ending) -> None:
        rows = self.log.rows()
        self.log.close(ending)
        branches = read_branches(Run(self.log.folder, self.log.run, {}, rows))
        if rows:
            from recipes.archer.reports.curves import curves_png, end_table  # matplotlib takes a second to import

            picture = curves_png(rows, title=self.settings.experiment_name, branches=branches)
            with suppress(OSError):  # a full disk; archer report draws it again
                write_atomically(self.log.folder / "curves.png", picture)
            self.console.print(end_table(rows))
        self.say(f"{ending.status}: {ending.reason}")
        self.say(f"run folder {self.log.folder} (curves.png, metrics.jsonl, samples/); archer report {self.log.folder}")


class _Bar:
    """Progress over the steps, with the last row's figures."""

    def __init__(self, console: Console, total: int):
        text = TextColumn("{task.description}")
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(20), TimeRemainingColumn(), text)
        # what others print is for setup.log, where sys.stdout leads during a run, and not for above the bar
        self._progress = Progress(*columns, console=console, redirect_stdout=False)
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
