"""Power failure: which of the writes that were not synced are on the disk when the machine is up again.

The losses are choice points, at which 0 always means that nothing is lost. The disk model says what can be lost:

`ext4-ordered`
    Operations on names, attributes and sizes are journalled: all up to some moment survive, and none after it. Each
    call is one operation, so after a rename that replaces a file, the old or the new file is there. fsync(2) of any
    file commits all operations so far (ext4_sync_file() in fs/ext4/fsync.c); after `COMMIT_NS` they are committed
    anyway. Blocks for data that extend a file are allocated late and from start to end, and the size on disk follows
    (i_disksize in mpage_map_and_submit_extent()): the file ends early, but never in zeros. Data within the old
    size are overwritten in place, page by page in any order; each page is kept, dropped or torn at a sector. If a
    file that was renamed over another one is on disk, so are its data (auto_da_alloc).
`posix`
    Each name, size, set of attributes and page is kept or lost on its own, until its file or directory is synced. A
    renamed file may be found under both names or none. Directories are never in two places: fsck(8) would repair that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from simloop.kernel.files.contents import PAGE, Contents, pages
from simloop.kernel.files.disk import COMMIT_NS, WRITEBACK_NS
from simloop.kernel.files.inodes import Directory, Regular
from simloop.kernel.files.journal import Change, EntryChange, SizeChange

if TYPE_CHECKING:
    from simloop.choices.choices import Choices
    from simloop.kernel.files.filesystem import FileSystem

# How much a drive writes whole. Pages are torn at multiples of it.
SECTOR = 512
_SECTORS = PAGE // SECTOR
# The answers for a page: kept, dropped, its first sectors are new, its last sectors are new.
PAGE_ANSWERS = 2 * _SECTORS
# More pages than that share answers with their neighbours.
PAGES_MAX = 4096


def torn(old: bytes, new: bytes, answer: int) -> bytes:
    """Return a torn page, of which only some sectors have new data. `answer`, from the choice point, says which
    ones."""
    old, new = old.ljust(PAGE, b"\0"), new.ljust(PAGE, b"\0")
    if answer <= _SECTORS:
        cut = (answer - 1) * SECTOR
        return new[:cut] + old[cut:]
    cut = (answer - _SECTORS) * SECTOR  # of 8 sectors, the last 7 to 1 are new
    return old[:cut] + new[cut:]


def lose_power(fs: FileSystem, choices: Choices) -> None:
    """Simulate a power failure: afterwards `fs` holds only what was on its disk, and everything in it is durable.

    Descriptors of its files must not be used any more, since their processes have ended.
    """
    if fs.disk.journals:
        _lose_operations(fs, choices)
    else:
        _lose_changes(fs, choices)
    fs.journal.operations.clear()
    fs.on_change = None
    for file in list(fs.written.values()):
        file.opens = 0
        if file.nlink > 0:
            _lose_data(fs, file, choices)
        else:
            fs.written.pop(file.ino, None)
        file.writeback.mark_durable(file.contents)
    fs.restarted()


# --- metadata ----------------------------------------------------------------------------------------------


def _lose_operations(fs: FileSystem, choices: Choices) -> None:
    journal = fs.journal
    journal.commit_until(fs.now() - COMMIT_NS)
    operations = journal.operations
    if not operations:
        return
    lost = choices.order(fs.name, "disk.journal", len(operations) + 1, fs)
    for _ in range(lost):
        operations.pop().revert()
    journal.commit()


def _lose_changes(fs: FileSystem, choices: Choices) -> None:
    for who, changes in _groups(fs.journal.changes()):
        if choices.order(f"{fs.name}:{who}", "disk.journal", 2, fs):
            for change in reversed(changes):
                change.revert()


def _groups(changes: Iterable[Change]) -> list[tuple[str, list[Change]]]:
    """Return the changes in groups, each with its name for a choice point. Changes of one group reach the disk in
    order."""
    groups: dict[object, list[Change]] = {}
    names: dict[object, str] = {}
    # Names between which a directory has moved share its group, with all that happened to them.
    tied: dict[object, object] = {}
    for change in changes:
        key: object
        if isinstance(change, EntryChange):
            who = change.path
            key = (change.inode.ino, change.name)
            moved = next((end for end in (change.before, change.after) if isinstance(end, Directory)), None)
            if moved is not None:
                _tie(tied, groups, ("directory", moved.ino), key)
        elif isinstance(change, SizeChange):
            who, key = f"{change.inode.path}:cut", ("size", change.inode.ino)
        else:
            who, key = f"{change.inode.path}:mode", ("attributes", change.inode.ino)
        while key in tied:
            key = tied[key]
        groups.setdefault(key, []).append(change)
        names.setdefault(key, who)
    return [(names[key], group) for key, group in groups.items()]


def _tie(tied: dict[object, object], groups: dict[object, list[Change]], one: object, other: object) -> None:
    while one in tied:
        one = tied[one]
    while other in tied:
        other = tied[other]
    if one == other:
        return
    tied[other] = one
    # Changes of both, still in the order in which they were made: a later change of a name undoes the earlier.
    if other in groups:
        earlier = groups.pop(other)
        groups[one] = groups[one] + earlier if one in groups else earlier


# --- data --------------------------------------------------------------------------------------------------


def _lose_data(fs: FileSystem, file: Regular, choices: Choices) -> None:
    writeback, contents = file.writeback, file.contents
    on_disk = writeback.disk_pages()
    for low, high in writeback.failed_pages:
        for page in range(low, high):
            put(contents, page, on_disk.get(page))
    if not writeback.dirty:
        return
    if fs.disk.journals and fs.now() - writeback.since_ns > WRITEBACK_NS:
        return
    who = f"{fs.name}:{file.path}"

    def lose(page: int, answer: int) -> None:
        if answer:
            new = contents.read(page * PAGE, PAGE)
            put(contents, page, on_disk.get(page) if answer == 1 else torn(on_disk.get(page, b""), new, answer))

    def ask(page: int) -> int:
        # What the disk never had cannot be torn in ext4: the block becomes part of the file once it is written.
        whole = fs.disk.journals and page not in on_disk
        return choices.order(f"{who}:{page}", "disk.crash", 2 if whole else PAGE_ANSWERS, file)

    if fs.disk.journals:
        _lose_ordered(file, who, choices, ask, lose)
        return
    shorter = contents.size != writeback.disk_size and choices.order(f"{who}:size", "disk.crash", 2, file)
    for group in _grouped(_numbers(file, 0, pages(contents.size))):
        answer = ask(group[0])
        for page in group:
            lose(page, answer)
    if shorter:
        contents.resize(writeback.disk_size)


def _lose_ordered(
    file: Regular, who: str, choices: Choices, ask: Callable[[int], int], lose: Callable[[int, int], None]
) -> None:
    contents, disk_size = file.contents, file.writeback.disk_size
    end = pages(disk_size)
    grows = contents.size > disk_size
    for group in _grouped(_numbers(file, 0, end)):
        answer = ask(group[0])
        for page in group:
            lose(page, answer)
        # The size is journalled after the data: without those of the page in which the file ended, it ends there.
        if answer and disk_size % PAGE and group[-1] == end - 1:
            grows = False
    fresh = _numbers(file, end, pages(contents.size)) if grows else []
    lost = choices.order(f"{who}:end", "disk.crash", len(fresh) + 1, file) if fresh else 0
    if not grows:
        contents.resize(min(contents.size, disk_size))
    elif lost:
        kept = fresh[: len(fresh) - lost]
        # Where it grew inside of the page in which it ended, that page was kept.
        least = end * PAGE if disk_size % PAGE and end - 1 in file.writeback.dirty else disk_size
        contents.resize((kept[-1] + 1) * PAGE if kept else least)


def _numbers(file: Regular, first: int, last: int) -> list[int]:
    return [page for low, high in file.writeback.dirty.within(first, last) for page in range(low, high)]


def _grouped(numbers: list[int]) -> list[list[int]]:
    step = -(-len(numbers) // PAGES_MAX) or 1
    return [numbers[at : at + step] for at in range(0, len(numbers), step)]


def put(contents: Contents, page: int, data: bytes | None) -> None:
    """Set a page to `data`, padded with zeros, or make it a hole if `data` is None. The size of the file stays."""
    if data is None:
        contents.drop_page(page)
        return
    room = contents.size - page * PAGE
    if room > 0:
        contents.write(page * PAGE, memoryview(data.ljust(PAGE, b"\0")[:room]))
