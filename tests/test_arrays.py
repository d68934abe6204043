"""Arrays come back as they went in, and a file that holds anything else is refused unread."""

import io
import mmap
import pickle
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kopwijzer.arrays import pack, unpack
from kopwijzer.errors import BadVersion

NAMES = frozenset(["a", "b"])
A = np.arange(6, dtype=np.float32).reshape(2, 3)
B = np.arange(5, dtype=np.int64)

_kinds = st.sampled_from(["i1", "f4", "f8", "u2", "u4", "i8"])
_arrays = _kinds.flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)
_named = st.dictionaries(
    st.text("abcdefghij_0123456789", min_size=1, max_size=20), _arrays, max_size=6
)


@given(_named)
@example({"a": np.zeros((0,), np.int8), "b": np.zeros((3, 0), np.float32), "c": np.array(7)})
def test_arrays_come_back(arrays: dict[str, npt.NDArray[Any]]) -> None:
    data = pack(arrays)
    back = unpack(data, frozenset(arrays))
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    assert set(back) == set(loaded) == set(arrays)
    for name, array in arrays.items():
        for other in (back[name], loaded[name]):
            assert other.dtype == array.dtype
            assert other.shape == array.shape
            assert other.tobytes() == array.tobytes()
        assert not back[name].flags.writeable


@given(_named)
def test_the_same_arrays_are_the_same_bytes_in_any_memory_order(
    arrays: dict[str, npt.NDArray[Any]],
) -> None:
    data = pack(arrays)
    assert pack({name: np.array(array, order="F") for name, array in arrays.items()}) == data
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    assert pack(swapped) == data
    assert pack({name: array[...] for name, array in arrays.items()}) == data


def _starts(data: bytes, arrays: dict[str, npt.NDArray[Any]]) -> list[int]:
    base = np.frombuffer(data, dtype=np.uint8).__array_interface__["data"][0]
    return [a.__array_interface__["data"][0] - base for a in arrays.values()]


@given(_named)
def test_every_array_starts_at_a_multiple_of_64(arrays: dict[str, npt.NDArray[Any]]) -> None:
    filled = {name: array for name, array in arrays.items() if array.size}
    data = pack(filled)
    assert all(start % 64 == 0 for start in _starts(data, unpack(data, frozenset(filled))))


def test_arrays_of_a_mapped_file_stay_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(pack({"a": np.zeros(1 << 22, np.float64), "b": B}))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tracemalloc.start()
    try:
        back = unpack(mapped, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert back["a"].sum() == 0
    assert np.array_equal(back["b"], B)


# What is refused -------------------------------------------------------------------------------


def _member(array: npt.NDArray[Any], *, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(1, 0), allow_pickle=pickled)
    return stream.getvalue()


def _zip(
    members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED, comment: bytes = b""
) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.filterwarnings("ignore", "Duplicate name")  # on purpose
        archive.comment = comment
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def _with(content: bytes) -> bytes:
    """A file whose second array is `content`."""
    return _zip([("a.npy", _member(A)), ("b.npy", content)])


def _header(text: str, body: bytes = b"") -> bytes:
    """A .npy member whose header is `text`."""
    line = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line + body


def _shape(shape: str, body: bytes = b"", descr: str = "'<i8'", fortran: str = "False") -> bytes:
    head = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    return _header(head, body)


class Bomb:
    """Runs something when it is unpickled; the tests look whether it did."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_the_plain_file_is_read() -> None:
    back = unpack(_with(_member(B)), NAMES)
    assert np.array_equal(back["a"], A)
    assert np.array_equal(back["b"], B)
    assert np.array_equal(unpack(_with(_shape("(2,)", bytes(16))), NAMES)["b"], [0, 0])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK", id="two bytes"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"\x80\x04." * 50, id="a pickle"),
        pytest.param(_member(B), id="a bare npy"),
        pytest.param(_zip([]), id="no members"),
        pytest.param(_zip([("a.npy", _member(A))]), id="one missing"),
        pytest.param(_zip([("a.npy", _member(A)), ("b.npy", _member(B))] * 2), id="twice"),
        pytest.param(_zip([("a.npy", _member(A))] * 2), id="the same name twice"),
        pytest.param(
            _zip([("a.npy", _member(A)), ("b.npy", _member(B)), ("c.npy", b"")]), id="one more"
        ),
        pytest.param(_zip([("../a.npy", _member(A)), ("b.npy", _member(B))]), id="a path"),
        pytest.param(_zip([("a.npy", _member(A)), ("b.pkl", b"")]), id="a pickle's name"),
        pytest.param(_zip([(f"{n}", b"") for n in range(3000)]), id="many members"),
        pytest.param(
            _zip([("a.npy", _member(A)), ("b.npy", _member(B))], comment=b"x" * 30), id="comment"
        ),
        pytest.param(
            _zip([("a.npy", _member(A)), ("b.npy", _member(B))], zipfile.ZIP_DEFLATED),
            id="deflated",
        ),
        pytest.param(
            _zip([("a.npy", _member(A)), ("b.npy", _member(B))], zipfile.ZIP_BZIP2), id="bzip2"
        ),
        pytest.param(
            _zip([("a.npy", _member(A)), ("b.npy", _member(B))], zipfile.ZIP_LZMA), id="lzma"
        ),
        pytest.param(_with(b""), id="an empty member"),
        pytest.param(_with(b"\x93NUMPY"), id="half a magic"),
        pytest.param(_with(_member(B)[:-1]), id="a short body"),
        pytest.param(_with(_member(B) + b"\0"), id="a long body"),
        pytest.param(_with(_member(np.array(["x", "y"]))), id="text"),
        pytest.param(_with(_member(np.array([1, 2], dtype=complex))), id="complex"),
        pytest.param(_with(_member(np.array([True]))), id="truth values"),
        pytest.param(_with(_member(np.array([1], dtype=">i8"))), id="big-endian"),
        pytest.param(_with(_member(np.array(["2020"], dtype="M8[Y]"))), id="dates"),
        pytest.param(_with(_member(np.zeros(2, dtype=[("x", "<i8")]))), id="records"),
        pytest.param(_with(_member(np.asfortranarray(A))), id="columns first"),
        pytest.param(_with(_member(np.array([{}, None]), pickled=True)), id="objects"),
        pytest.param(_with(_shape("(2,)", pickle.dumps({}), "'|O'")), id="objects by name"),
        pytest.param(_with(_shape("(-1, -2)", bytes(16))), id="negative"),
        pytest.param(_with(_shape("(-2,)", bytes(16))), id="negative alone"),
        pytest.param(_with(_shape("(1000000000000,)", bytes(16))), id="huge"),
        pytest.param(_with(_shape(f"({10**30},)", bytes(16))), id="beyond any integer"),
        pytest.param(_with(_shape("(4294967296, 4294967296)")), id="overflows to nothing"),
        pytest.param(_with(_shape("(0, 100000000000000, 100000000000000)")), id="nothing, hugely"),
        pytest.param(_with(_shape("(" + "1, " * 70 + ")", bytes(8))), id="70 dimensions"),
        pytest.param(_with(_shape("(2.0,)", bytes(16))), id="a fraction"),
        pytest.param(_with(_shape("(2L,)", bytes(16))), id="Python 2"),
        pytest.param(_with(_shape("(True, 2)", bytes(16))), id="truth as a size"),
        pytest.param(_with(_shape("[2]", bytes(16))), id="a list as shape"),
        pytest.param(_with(_shape("(2,)", bytes(16), "['<i8']")), id="a list as dtype"),
        pytest.param(_with(_shape("(2,)", bytes(16), fortran="0")), id="no truth"),
        pytest.param(_with(_header("(" * 50_000)), id="deep header"),
        pytest.param(_with(_header("-" * 50_000 + "1")), id="deeper header"),
        pytest.param(_with(_header("__import__('os').abort()")), id="code"),
        pytest.param(_with(_member(B).replace(b"\x01\x00", b"\x02\x00", 1)), id="version 2"),
        pytest.param(_with(_member(B).replace(b"v\x00{", b"v\x01{", 1)), id="a long header"),
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(BadVersion, match="is not a file of plain arrays"):
        unpack(data, NAMES)


def test_an_object_array_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    bombs = np.array([Bomb(mark), Bomb(mark)], dtype=object)
    for content in (_member(bombs, pickled=True), pickle.dumps(Bomb(mark))):
        with pytest.raises(BadVersion, match="plain numbers"):
            unpack(_with(content), NAMES)
    assert not mark.exists()


def test_a_zip_bomb_takes_no_memory() -> None:
    bomb = _zip(
        [("a.npy", _member(A)), ("b.npy", _shape("(25000000,)", bytes(200_000_000)))],
        zipfile.ZIP_DEFLATED,
    )
    assert len(bomb) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(BadVersion, match="compressed"):
            unpack(bomb, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_large_directory_takes_no_memory() -> None:
    bomb = _zip([(f"{n:030}", b"") for n in range(20_000)])
    tracemalloc.start()
    try:
        with pytest.raises(BadVersion, match=r"many members"):
            unpack(bomb, NAMES)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


WHOLE = pack({"a": A, "b": B})


def test_every_shorter_file_is_refused() -> None:
    for size in range(len(WHOLE)):
        with pytest.raises(BadVersion, match="is not a file of plain arrays"):
            unpack(WHOLE[:size], NAMES)


@given(st.data())
@settings(max_examples=800)
def test_a_changed_file_is_refused_or_holds_plain_arrays(data: st.DataObject) -> None:
    changed = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 6))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        back = unpack(bytes(changed), NAMES)
    except BadVersion:
        return
    assert sum(array.nbytes for array in back.values()) <= 2 * len(WHOLE)
    assert all(array.dtype.kind in "fiu" for array in back.values())
