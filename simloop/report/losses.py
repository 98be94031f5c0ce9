"""Sentences on what a power cut lost, for deviations at the choice points of `simloop.kernel.files.crash`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simloop.choices.who import Who
from simloop.kernel.files.contents import PAGE
from simloop.kernel.files.crash import PAGE_ANSWERS, SECTOR

if TYPE_CHECKING:
    from simloop.choices.choices import Answer

_PAGE_SECTORS = PAGE // SECTOR


def tell(asked: str, kind: str, answer: int, subject: object) -> str:
    """Return the sentence for a deviation of a power cut: `asked` is the name of the choice point, and `subject` the
    file or journal that it is about. To be called while the choice is made, as the subject changes afterwards."""
    who = Who(asked)
    host, path, what = who.host, who.path, who.part
    if kind == "disk.journal":
        if not who.place:
            lost = subject.journal.operations[-answer:]  # type: ignore[attr-defined]
            more = f", nor the {len(lost) - 1} after it" if len(lost) > 1 else ""
            return f"the power cut of {host} came before {lost[0]} was on disk{more}"
        whose = {"cut": f"the new size of {path}", "mode": f"attributes of {path}"}
        return f"the power cut of {host} came before {whose.get(what, f'the name {who.place}')} was on disk"
    if what == "end":
        return f"the power cut of {host} took the last {'page' if answer == 1 else f'{answer} pages'} of {path}"
    if what == "size":
        return f"the power cut of {host} came before the size of {path} was on disk"
    if answer == 1:
        return f"the power cut of {host} came before page {what} of {path} was on disk"
    part = f"first {answer - 1}" if answer <= _PAGE_SECTORS else f"last {PAGE_ANSWERS - answer}"
    return f"the power cut of {host} tore page {what} of {path}: only its {part} sectors were on disk"


def lost(answer: Answer, subject: Any) -> tuple[str, int | str]:
    """Return the host whose power was cut, and what was lost by the deviation `answer`: the inode number of a file
    whose data was lost, or the path of the first directory entry that was. `subject` is the file or journal that the
    choice was about. To be called while the choice is made, since the subject changes afterwards."""
    who = Who(answer.point.who)
    if answer.point.kind == "disk.crash":
        return who.host, subject.ino
    return who.host, who.place or subject.journal.operations[-answer.value].changes[-1].subject
