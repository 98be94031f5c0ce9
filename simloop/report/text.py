"""Report of a failure as text: the cause, the steps, the verdict on stock asyncio, and how to replay it.

It fits a terminal of 100 columns and 60 lines, unless `whole` is given: then nothing is left out.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simloop.report.table import cut, table, whole_table
from simloop.sources import source_of

if TYPE_CHECKING:
    from simloop.report.explanation import Explanation

WIDTH = 100
HEIGHT = 60
_SENTENCES = 5
_WAITING_MAX = 6
_STALLS_MAX = 2
# A step takes up to four lines of the table, and this many steps say enough.
_LINES_OF_STEP = 4
_STEPS = 10


@dataclass(frozen=True)
class Line:
    """Line of the report, with a role for colouring: ``title``, ``cause``, ``code``, ``verdict``, or an empty text."""

    text: str
    role: str = ""


def failure_text(head: str, explanation: Explanation, tail: list[Line], *, whole: bool = False) -> list[Line]:
    """Return the lines of a report: the first line `head`, the cause of the failure, the steps, the verdict, and
    `tail`. With `whole` nothing is left out."""
    above = [*paragraph(head, "title"), *_causes(explanation, whole=whole)]
    stalls = [line for told in explanation.stalls()[:_STALLS_MAX] for line in paragraph(told)]
    below = [*_failed(explanation), *stalls, Line(""), *paragraph(explanation.verdict, "verdict"), *tail]
    if whole:
        middle = whole_table(explanation)
    else:
        room = HEIGHT - len(above) - len(below) - 3
        middle = table(explanation, WIDTH, max(2, min(_STEPS, room // _LINES_OF_STEP)))[: max(0, room)]
    steps = [Line(""), *(Line(text, "title" if at == 0 else "") for at, text in enumerate(middle))] if middle else []
    return [*above, *steps, *below]


def _causes(explanation: Explanation, *, whole: bool) -> list[Line]:
    """Return the lines that explain the failure: sentences on its deviations, and the lines of code that race."""
    sentences = explanation.sentences
    if not explanation.failing.steps:
        return []  # nobody has watched it
    if not sentences:
        return [Line("it fails when nothing unusual happens: no particular order is needed", "cause")]
    if len(sentences) == 1:
        lines = [Line("it passes when nothing unusual happens; this is what makes it fail:")]
        lines += paragraph(sentences[0], "cause", "  ")
    else:
        lines = [Line(f"it passes when nothing unusual happens; these {len(sentences)} things make it fail:")]
        shown = sentences if whole else sentences[:_SENTENCES]
        for number, sentence in enumerate(shown, 1):
            lines += paragraph(f"{number}. {sentence}", "cause", "  ", "     ")
        if len(shown) < len(sentences):
            lines.append(Line(f"  ... and {len(sentences) - len(shown)} more, which -vv shows"))
        left_out = explanation.left_out_number()
        if left_out is not None:
            lines.append(Line(f"the passing run does without number {left_out}"))
    headline = explanation.headline()
    if headline:
        lines += paragraph(headline, "cause", "  ")
    source = explanation.source()
    if source:
        across = max(len(where) for where, _, _ in source)
        lines.append(Line(""))
        for where, text, mark in source:
            lines.append(
                Line(f"{cut(f'    {where:<{across}}   {text}', WIDTH - len(mark) - 3)}   {mark}".rstrip(), "code")
            )
    return lines


def _failed(explanation: Explanation) -> list[Line]:
    step = explanation.failed()
    if step is None or step.end is None:
        return []
    source = source_of(step.end)
    lines = [Line(""), *paragraph(f"{step.actor.name} {step.ending} at {step.end}")]
    lines += [Line(cut(f"    {source}", WIDTH), "code")] if source else []
    waiting = explanation.still_waiting()
    if waiting:
        more = len(waiting) - _WAITING_MAX
        lines.append(Line("then these were still waiting:"))
        lines += [Line(cut(f"    {text}", WIDTH)) for text in waiting[:_WAITING_MAX]]
        lines += [Line(f"    ... and {more} more")] if more > 0 else []
    return lines


def command(words: list[str]) -> list[Line]:
    """Return a shell command as lines of the report, broken by backslashes so that it can be pasted."""
    lines: list[str] = []
    current = " "
    for word in words:
        if len(current) + len(word) > WIDTH - 4 and current.strip():
            lines.append(current + " \\")
            current = "   "
        current += " " + word
        while len(current) > WIDTH - 2:
            # A word that is longer than a line goes on at the very beginning of the next.
            lines.append(current[: WIDTH - 2] + "\\")
            current = current[WIDTH - 2 :]
    return [Line(text) for text in [*lines, current]]


def paragraph(text: str, role: str = "", indent: str = "", hanging: str | None = None) -> list[Line]:
    wrapped = textwrap.wrap(
        text,
        WIDTH - 1,
        initial_indent=indent,
        subsequent_indent=indent if hanging is None else hanging,
        break_on_hyphens=False,
    )
    return [Line(line, role) for line in wrapped]
