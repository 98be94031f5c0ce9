"""Every page's code does what the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, PageError, blocks_of, commands_in, module_of, name_of, play

WITH_COMMANDS = [
    page for page in PAGES if any(block.language != "python" or block.file for block in blocks_of(page.read_text()))
]
#: Links into the repository, as the site writes them, and as the README does.
LINK = re.compile(
    r"https://github\.com/simloop/pytest-simloop/(?:blob|tree)/main/([^)#\s>]+)|\]\((?!https?:|#)([^)#\s]+)"
)

#: Files of the project in a page's text, from its root or from that of the library.
NAMED = re.compile(
    r"`((?:simloop|pytest_simloop|tests|docs|benchmarks|examples"
    r"|choices|kernel|network|world|loop|shims|checks|report|simulation|explore)/[\w./-]+)`"
)
#: Files that the architecture has a place for, and that are still to be written.
PLANNED = {"shims/ssl.py"}


def test_python_of_all_pages(tmp_path: Path) -> None:
    """In one session, which costs more than what is in it. A line of `docs/x.py` is that of `docs/x.md`."""
    modules = []
    for page in PAGES:
        if code := module_of(page.read_text()):
            module = tmp_path / Path(name_of(page)).with_suffix(".py")
            module.parent.mkdir(parents=True, exist_ok=True)
            module.write_text(code)
            modules.append(str(module.relative_to(tmp_path)))
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error", "--sim", "--sim-runs=20"]
    command = [sys.executable, "-m", "pytest", *options, "--continue-on-collection-errors", *modules]
    child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert child.returncode == 0, child.stdout + child.stderr


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="pages show what Python 3.13 prints")
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_commands_of_a_page(page: Path, tmp_path: Path) -> None:
    play(page.read_text(), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_into_the_repository(page: Path) -> None:
    for absolute, relative in LINK.findall(page.read_text()):
        target = ROOT / absolute if absolute else page.parent / relative
        assert target.exists(), f"{name_of(page)} links to {absolute or relative}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names(page: Path) -> None:
    for path in NAMED.findall(page.read_text()):
        exists = any(each.exists() for each in (ROOT / path, ROOT / "simloop" / path, page.parent / path))
        assert exists != (path in PLANNED), f"{name_of(page)} names {path}"


# --- the machinery can fail ---------------------------------------------------------------------------


def test_a_command_that_prints_something_else_is_found(tmp_path: Path) -> None:
    page = "```console\n$ python -c 'print(1, 2, 3)'\n1 ... 4\n```\n"
    with pytest.raises(PageError, match="1 2 3"):
        play(page, tmp_path)
    play(page.replace("4", "3"), tmp_path)


def test_a_block_is_run_unless_it_says_why_not() -> None:
    page = "# Title\n\n```python\nassert False\n```\n"
    assert module_of(page).splitlines()[3] == "assert False"
    assert blocks_of(page.replace("```python", "<!-- not run: it fails -->\n```python")) == []
    assert module_of(page.replace("```python", "<!-- not run -->\n```python")) != ""


def test_a_shell_block_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(PageError, match="not run"):
        play("```sh\npytest\n```\n", tmp_path)


def test_set_up_and_files() -> None:
    page = "<!-- set-up\nx = 1\n-->\n\n<!-- file: a.py -->\n```python\ny = 2\n```\n"
    assert blocks_of(page) == [Block(2, "python", "x = 1\n", ""), Block(7, "python", "y = 2\n", "a.py")]
    assert "y = 2" not in module_of(page)


def test_commands_go_over_lines() -> None:
    assert commands_in(Block(1, "console", "$ pytest \\\n    -q\n1 passed\n$ python x.py\n", "")) == [
        ("pytest -q", "1 passed\n"),
        ("python x.py", ""),
    ]


def test_one_test_does_not_hide_another() -> None:
    with pytest.raises(PageError, match="test_a"):
        module_of("```python\ndef test_a(): ...\n```\n\n```python\ndef test_a(): ...\n```\n")
