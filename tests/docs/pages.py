"""Code of the documentation's pages: found by the Markdown parser that the site is built with, and run as a reader
would run it.

In a page, an HTML comment before a block says what the block is, where that is not plain:

- ``<!-- file: NAME -->``: the block is the file of that name, for the commands further down;
- ``<!-- not run: REASON -->``: nobody runs it;
- ``<!-- set-up`` and lines of Python up to ``-->``: code that the page's blocks need and do not show.

Other Python blocks of a page are one module, each at its own lines; its async tests run under ``--sim``. Blocks of the
language ``console`` are commands after ``$`` with what they print, in which ``...`` stands for anything.
"""

from __future__ import annotations

import difflib
import doctest
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

#: What every page may use without showing an import.
IMPORTS = "import asyncio, contextlib, errno, os, signal, sys, time, pytest, simloop"
_RUN = ("python", "console", "sh", "toml")
_NOTE = re.compile(r"<!-- (file|not run): (.+?) -->\s*$")
_SET_UP = "<!-- set-up\n"


class Block(NamedTuple):
    """A fenced block of code, or hidden set-up."""

    #: Number of its first line of code, from 1.
    line: int
    language: str
    text: str
    #: The file that it is; empty for none.
    file: str


class PageError(Exception):
    """Something about a page's code that needs mending."""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks_of(markdown: str) -> list[Block]:
    """Blocks that are to be run, in their order."""
    found: list[Block] = []
    note: re.Match[str] | None = None
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.map is None or token.type.endswith("_close"):
            continue
        first = token.map[0] + 2
        if token.type == "html_block":
            note = _NOTE.match(token.content) or note
            if token.content.startswith(_SET_UP):
                code = token.content.removeprefix(_SET_UP).partition("-->")[0]
                found.append(Block(first, "python", code, ""))
        elif token.type == "fence":
            kind = note.group(1) if note else ""
            language = token.info.strip()
            if kind != "not run" and (language in _RUN or kind == "file"):
                found.append(Block(first, language, token.content, note.group(2) if note else ""))
            note = None
    return found


def module_of(markdown: str) -> str:
    """The Python blocks of a page as one module, each line where it stands in the page; empty if there are none."""
    parts = [block for block in blocks_of(markdown) if block.language == "python" and not block.file]
    if not parts:
        return ""
    lines = [""] * (markdown.count("\n") + 1)
    lines[0] = IMPORTS
    defined: set[str] = set()
    for block in parts:
        for name in re.findall(r"^(?:async )?def (test_\w+)", block.text, re.MULTILINE):
            if name in defined:
                raise PageError(f"line {block.line}: a second {name}() would hide the first one: give it its own name")
            defined.add(name)
        code = block.text.splitlines()
        lines[block.line - 1 : block.line - 1 + len(code)] = code
    return "\n".join(lines) + "\n"


def play(markdown: str, folder: Path) -> None:
    """Write the files of a page into `folder` and give its commands, as its reader would. Raises `PageError` at the
    first one that prints something else than the page says."""
    for block in blocks_of(markdown):
        if block.file:
            (folder / block.file).write_text(block.text)
        if block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "sh":
            raise PageError(f"line {block.line}: write `console` with what it prints, or why it is not run")
        elif block.language == "console":
            for command, expected in commands_in(block):
                printed = run(command, folder)
                if not _is_like(expected, printed):
                    lines = difflib.unified_diff(
                        expected.splitlines(), printed.splitlines(), "page", "printed", lineterm=""
                    )
                    raise PageError(f"line {block.line}: {command} has printed something else:\n" + "\n".join(lines))


def commands_in(block: Block) -> list[tuple[str, str]]:
    """Commands of a console block, each with what it prints."""
    found = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        command = lines.pop(0)
        while command.endswith("\\\n"):
            command = command.removesuffix("\\\n") + lines.pop(0).lstrip()
        found.append((command.strip(), "".join(lines)))
    if not found or not block.text.startswith("$ "):
        raise PageError(f"line {block.line}: a console block begins with `$ ` and a command")
    return found


def _is_like(expected: str, printed: str) -> bool:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(expected, printed, flags)


def run(command: str, folder: Path) -> str:
    """What a command prints, on both streams. `pytest`, `python` and `simloop` are those of this interpreter."""
    program, *arguments = shlex.split(command)
    start = {"python": [], "pytest": ["-m", "pytest", "-p", "no:cacheprovider"], "simloop": ["-m", "simloop"]}
    if program not in start:
        raise PageError(f"{command}: only {', '.join(start)} can be run here")
    env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "80"}
    # With it pytest prints long lines whole.
    env.pop("CI", None)
    env.pop("PYTEST_ADDOPTS", None)
    child = subprocess.run(
        [sys.executable, *start[program], *arguments],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return child.stdout
