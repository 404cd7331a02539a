"""What a terminal shows of a run: a line for each stage, warnings and errors in full. `snakemake --logger stages`.

A stage's line has how many of its jobs are done, the time gone and left, and what runs now; where there is no terminal,
each job that ends is a line of its own. The output of jobs goes to their logs.
"""

import logging
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

STAGES = {
    "parallel": "captions", "translate_shard": "translate", "quality": "translate", "features_shard": "features",
    "states": "train", "teacher": "train", "student": "train", "alignment": "evaluate", "alignments": "tables",
    "translations": "tables",
}  # fmt: skip
LAST_WORDS = 40  # lines of the log of a job that failed


class LogHandler(LogHandlerBase):
    """Turns Snakemake's events into lines."""

    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter, needs_rulegraph = True, True, False

    def __post_init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", style="dim"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._lines: dict[str, int] = {}
        self._jobs: dict[int, tuple[str, str, list[str], float]] = {}  # job id -> stage, target, logs, start
        self._failed: set[int] = set()  # jobs that have not been tried again since

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        self._bars.stop()
        super().close()

    def _handle(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self._begin(record.stats)
        elif event == LogEvent.JOB_INFO:
            stage, target = STAGES.get(record.rule_name, record.rule_name), _target(record.output)
            self._failed.discard(record.jobid)
            self._jobs[record.jobid] = stage, target, list(record.log), time.monotonic()
            self._show(stage)
        elif event == LogEvent.JOB_FINISHED:
            self._finish(record.job_id)
        elif event == LogEvent.JOB_ERROR:
            self._fail(record)
        elif event == LogEvent.ERROR and not self._failed:  # of a job, all is said
            self._say(record.getMessage(), style="bold red")
        elif event is None and (record.levelno >= logging.WARNING or "Nothing to be done" in record.getMessage()):
            self._say(record.getMessage())

    def _begin(self, stats: dict[str, int]) -> None:
        totals: dict[str, int] = {}
        for rule, count in stats.items():
            if rule not in ("total", "all", "paper"):
                stage = STAGES.get(rule, rule)
                totals[stage] = totals.get(stage, 0) + count
        for stage, total in totals.items():
            if stage not in self._lines:
                self._lines[stage] = self._bars.add_task(stage, total=total, start=False, now="")
        self._bars.start()
        if not self._console.is_terminal and totals:
            self._say("jobs: " + ", ".join(f"{stage} {total}" for stage, total in totals.items()))

    def _show(self, stage: str) -> None:
        """What runs now of a stage."""
        if stage in self._lines:
            line = self._lines[stage]
            running = [target for other, target, _, _ in self._jobs.values() if other == stage]
            self._bars.start_task(line)
            self._bars.update(line, now=", ".join(map(_short, running)))

    def _finish(self, number: int) -> None:
        stage, target, logs, start = self._jobs.pop(number, ("", "", [], 0.0))
        if stage not in self._lines:
            return
        for line in _lines(logs):
            if line.startswith("WARNING") or "Warning:" in line:
                self._say(line)
        line = self._lines[stage]
        self._bars.advance(line)
        self._show(stage)
        task = next(task for task in self._bars.tasks if task.id == line)
        if task.finished:
            self._bars.update(line, now="")
        if not self._console.is_terminal:
            self._say(f"{stage} {task.completed:.0f}/{task.total:.0f}: {target} ({time.monotonic() - start:.0f} s)")

    def _fail(self, record: logging.LogRecord) -> None:
        self._failed.add(record.jobid)
        self._jobs.pop(record.jobid, None)
        logs = list(record.log)
        self._say(
            f"FAILED {STAGES.get(record.rule_name, record.rule_name)}: {_target(record.output)}", style="bold red"
        )
        for line in _lines(logs)[-LAST_WORDS:]:
            self._say(f"  {line}")
        if logs:
            self._say(f"  Its whole log: {', '.join(logs)}")

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False)


def _target(outputs: list[str]) -> str:
    """What a job makes, as `ccr` names it."""
    first = Path(str(outputs[0]).split(" (")[0]) if outputs else Path()
    return str(first.parent if "/seed" in str(first) or first.name == "manifest.json" else first)


def _short(target: str) -> str:
    path = Path(target)
    return f"{path.parent.name}/{path.name}" if path.name.startswith("seed") else path.name


def _lines(logs: list[str]) -> list[str]:
    """The lines of logs; of a bar that was drawn over itself, the last state."""
    texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in logs if Path(log).is_file()]
    return [
        line.rsplit("\r", 1)[-1] for text in texts for line in text.replace("\r\n", "\n").split("\n") if line.strip()
    ]
