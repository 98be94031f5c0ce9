"""What is in a file, against one string of bytes, across the bounds of the chunks that hold it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizes import examples

from simloop.kernel.files import contents
from simloop.kernel.files.contents import PAGE, Contents

CHUNK = 2 * PAGE
AT = st.integers(0, 4 * CHUNK) | st.integers(-2, 2).flatmap(
    lambda by: st.sampled_from([max(0, CHUNK * n + by) for n in range(5)])
)
CALLS = st.one_of(
    st.tuples(st.just("write"), AT, st.sampled_from([1, 3, PAGE - 1, PAGE, CHUNK, CHUNK + 1, 3 * CHUNK])),
    st.tuples(st.just("resize"), AT, st.just(0)),
    st.tuples(st.just("drop"), st.integers(0, 8), st.just(0)),
)


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "CHUNK", CHUNK)
        yield


@given(st.binary(max_size=3 * CHUNK), st.lists(CALLS, max_size=12), AT, st.integers(0, 2 * CHUNK))
@settings(deadline=None, max_examples=examples(300))
def test_as_one_string_of_bytes(real: bytes, calls: list[tuple[str, int, int]], start: int, count: int) -> None:
    file, model = Contents(real), bytearray(real)
    before = bytes(real)
    for number, (call, at, size) in enumerate(calls, 1):
        if call == "write":
            model.extend(bytes(max(0, at - len(model))))
            model[at : at + size] = bytes([number]) * size
            file.write(at, memoryview(bytes([number]) * size))
        elif call == "resize":
            model[at:] = bytes(max(0, at - len(model)))
            file.resize(at)
        else:
            low, high = at * PAGE, min(len(model), (at + 1) * PAGE)
            if low < high:
                model[low:high] = bytes(high - low)
                file.drop_page(at)
        assert file.size == len(model)
        assert file.read(0, len(model) + 1) == model
    assert file.read(start, count) == model[start : start + count]
    buffer = bytearray(b"?" * count)
    moved = file.read_into(start, memoryview(buffer))
    assert buffer == model[start : start + count] + b"?" * (count - moved)
    # The real file's bytes are shared by all hosts.
    assert real == before


def test_a_file_of_many_chunks_in_small_pieces() -> None:
    """As programs write: each piece goes on where the last one ended."""
    file, piece = Contents(), bytes(range(256)) * 3
    for number in range(100):
        file.write(number * len(piece), memoryview(piece))
    assert file.read(0, 100 * len(piece)) == piece * 100
    assert file.blocks == -(-100 * len(piece) // PAGE)
