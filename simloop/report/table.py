"""Table of the steps of a failing run beside those of the nearest passing run, with one column for each task."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.sources import Place, shown_path

if TYPE_CHECKING:
    from simloop.report.explanation import Explanation
    from simloop.report.trace import Actor, Step, Trace

_TIME = 8
_GAP = " "
_BETWEEN = " │ "
_WHOLE_CELL = 36
#: Maximum number of lines for the text of a cell.
_FOLDS = 3
_PLACE = re.compile(r"[^\s:]*:\d+")
#: Maximum number of steps shown before the first step that differs between the two runs.
_COMMON = 2


#: Number of tasks whose columns fit beside one another, for both runs together.
_BESIDE = 2


@dataclass(frozen=True)
class _Row:
    """Row of a table: one step, shown as `lines` in the column of its task. An `actor` of -1 means a text across all
    columns."""

    time: str
    actor: int
    lines: tuple[str, ...]


def table(explanation: Explanation, width: int, rows: int) -> list[str]:
    """Return the lines of a table that shows the failing run beside the passing one, for the two most important tasks.
    It has at most `rows` steps of each run, and is empty if there is no passing run or no task to show."""
    actors = explanation.actors()[:_BESIDE]
    if not actors or explanation.passing is None:
        return []
    start = explanation.parting()
    half = (width - len(_BETWEEN)) // 2
    file = _only_file(explanation, actors)
    lines_of = f" (lines of {shown_path(file).rpartition('/')[2]})" if file else ""
    failing = [*_rows(explanation.failing, actors, start, rows, file), *_stuck(explanation, actors, file)]
    passing = _rows(explanation.passing, actors, start, rows, file)
    left = _render(cut(f"failing run{lines_of}", half), failing, actors, half)
    right = _render("passing run", passing, actors, half)
    height = max(len(left), len(right))
    left += [""] * (height - len(left))
    right += [""] * (height - len(right))
    return [f"{one:<{half}}{_BETWEEN}{other}".rstrip() for one, other in zip(left, right, strict=True)]


def whole_table(explanation: Explanation) -> list[str]:
    """Return the lines of tables with all steps of all tasks: the failing run, then the passing one."""
    actors = explanation.all_actors()
    lines: list[str] = []
    for title, trace in (("failing run", explanation.failing), ("passing run", explanation.passing)):
        if trace is not None and actors:
            rows = _rows(trace, actors, 0, len(trace.steps))
            rows += _stuck(explanation, actors) if trace is explanation.failing else []
            lines += [*([""] if lines else []), *_render(title, rows, actors, _TIME + len(actors) * _WHOLE_CELL)]
    return lines


def _rows(trace: Trace, actors: list[Actor], start: int, most: int, file: str = "") -> list[_Row]:
    """Return the rows for the steps of these tasks, from up to two steps before step `start` to the end of the run. If
    there are more than `most`, some in the middle are left out."""
    columns = {actor.path: column for column, actor in enumerate(actors)}
    before = [step for step in trace.steps[:start] if step.actor.path in columns][-_COMMON:]
    after = [step for step in trace.steps[start:] if step.actor.path in columns]
    most = max(2, most - len(before))
    if len(after) <= most:
        return [_row(step, columns, file) for step in before + after]
    # The beginning is where it went wrong, and the end is what came of it: the larger part to the first.
    end = max(1, most // 3)
    skipped = _Row("", -1, (f"... {len(after) - most} more ...",))
    return [
        *(_row(step, columns, file) for step in before + after[: most - end]),
        skipped,
        *(_row(step, columns, file) for step in after[-end:]),
    ]


def _stuck(explanation: Explanation, actors: list[Actor], file: str = "") -> list[_Row]:
    """Return the rows that show, after a deadlock, at which line and for which event each task waits for ever."""
    columns = {actor.path: column for column, actor in enumerate(actors)}
    return [
        _Row("forever", columns[step.actor.path], (short(step.end, file), f"waits for {step.waits_for}"))
        for step in explanation.stuck()
        if step.actor.path in columns
    ]


def _row(step: Step, columns: dict[str, int], file: str) -> _Row:
    where = short(step.start, file)
    if step.end is not None and step.end != step.start:
        same_file = step.start is not None and step.start.file == step.end.file
        where += f"→{step.end.line if same_file else short(step.end, file)}"
    woken = step.woken_by
    if step.ending:
        where += f", {step.ending.removeprefix('raises ')}"
        if step.ending == "cancelled":
            woken = woken.removeprefix("cancelled ")
    return _Row(f"{step.time:.6f}", columns[step.actor.path], (where, woken))


def _render(title: str, rows: list[_Row], actors: list[Actor], width: int) -> list[str]:
    cell = (width - _TIME - len(_GAP) * len(actors)) // len(actors)
    header = _GAP.join([f"{'seconds':<{_TIME}}", *(f"{cut(actor.name, cell):<{cell}}" for actor in actors)])
    lines = [title, header.rstrip()]
    for row in rows:
        if row.actor < 0:
            lines.append(" " * (_TIME + len(_GAP)) + row.lines[0])
            continue
        indent = row.actor * (cell + len(_GAP))
        texts = [piece for text in row.lines for piece in _fold(text, cell)]
        for at, text in enumerate(texts):
            time = row.time if at == 0 else ""
            lines.append(f"{time:<{_TIME}}{_GAP}{' ' * indent}{text}".rstrip())
    return lines


def _fold(text: str, width: int) -> list[str]:
    """Break the text of a cell into at most three lines of at most `width` characters; text that does not fit is cut
    off."""
    if len(text) <= width:
        return [text]
    if _PLACE.match(text):
        where, _, ending = text.partition(", ")
        start, arrow, end = where.partition("→")
        lines = [where] if len(where) <= width or not arrow else [start, arrow + end]
        return [cut(line, width) for line in [*lines, ending] if line]
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return [cut(line, width) for line in [*lines[: _FOLDS - 1], " ".join(lines[_FOLDS - 1 :])] if line]


def cut(text: str, width: int) -> str:
    """Return `text` shortened to at most `width` characters. The position of a source line keeps its end, any other
    text its beginning."""
    if len(text) <= width:
        return text
    if " " not in text and ":" in text:
        return "…" + text[-(width - 1) :]
    return text[: width - 1] + "…"


def short(place: Place | None, file: str = "") -> str:
    """Return the position of a source line as file name and line number, without directories; for one in `file`, as the
    line number alone."""
    if place is None:
        return "?"
    return f":{place.line}" if place.file == file else f"{shown_path(place.file).rpartition('/')[2]}:{place.line}"


def _only_file(explanation: Explanation, actors: list[Actor]) -> str:
    """Return the file that contains all source lines of a table, or an empty text if there are several."""
    paths = {actor.path for actor in actors}
    traces = [trace for trace in (explanation.failing, explanation.passing) if trace is not None]
    files = {
        place.file
        for trace in traces
        for step in trace.steps
        if step.actor.path in paths
        for place in (step.start, step.end)
        if place is not None
    }
    return files.pop() if len(files) == 1 else ""
