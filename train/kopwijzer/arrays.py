"""Named arrays <-> one .npz file: the same bytes for the same arrays, and nothing that can run.

The file is what `numpy.load` reads: a zip of .npy members. Ours are stored (not compressed) and
aligned to 64 bytes, so that reading one is pointing into the mapped file. Anything else that a
zip or an .npy can hold is refused: compression (bombs), objects (pickles), other names.
"""

import io
import math
import mmap
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kopwijzer.errors import BadVersion

__all__ = ["pack", "unpack"]

Array = npt.NDArray[Any]

_ALIGN = 64
_HEADER = 30  # bytes of a zip member's fixed header (APPNOTE 4.3.7)
_END = 22  # bytes of a zip's last record where it holds no comment (APPNOTE 4.3.16)
_DIRECTORY = 1 << 16  # bytes that the directory of a few members never needs
#: An .npy header (NEP 1) as `pack` writes it: matched, and not evaluated as Python.
_NPY = re.compile(
    rb"\x93NUMPY\x01\x00(?P<size>..)\{'descr': '(?P<dtype>\|i1|<f4|<f8|<u2|<u4|<i8)', "
    rb"'fortran_order': False, 'shape': \((?P<shape>(?:[0-9]{1,15}, ?)*[0-9]{0,15})\), \} *\n",
    re.DOTALL,
)


def pack(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an .npz file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
            np.lib.format.write_array(member, plain, version=(1, 0), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            start = stream.tell() + _HEADER + len(info.filename) + 4
            padding = -start % _ALIGN
            # An extra field of our own ("kw") whose content is only there to move what follows.
            info.extra = b"kw" + padding.to_bytes(2, "little") + bytes(padding)
            archive.writestr(info, member.getvalue())
    return stream.getvalue()


def unpack(data: bytes | mmap.mmap, names: frozenset[str]) -> dict[str, Array]:
    """The arrays of an .npz file as read-only views of its bytes; exactly those of `names`.

    Raises
    ------
    BadVersion
        The bytes are not such a file, or hold anything but plain numbers.
    """
    try:
        return _unpack(data, names)
    except (ValueError, OverflowError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise BadVersion(f"is not a file of plain arrays ({error})") from error
    except (NotImplementedError, RuntimeError, KeyError, SyntaxError, TypeError) as error:
        raise BadVersion(f"is not a file of plain arrays ({type(error).__name__})") from error


def _unpack(data: bytes | mmap.mmap, names: frozenset[str]) -> dict[str, Array]:
    end = data[-_END:]
    if end[:4] != b"PK\5\6" or data[-_END - 20 : -_END - 16] == b"PK\6\7":
        raise ValueError("no plain zip file")
    if int.from_bytes(end[12:16], "little") > _DIRECTORY:
        raise ValueError("too many members")
    stream: Any = io.BytesIO(data) if isinstance(data, bytes) else data
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if sorted(m.filename for m in members) != sorted(f"{name}.npy" for name in names):
            raise ValueError("other members than expected")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 0x1:
                raise ValueError(f"{member.filename} is compressed or encrypted")
            if member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} lies about its size")
            here = member.header_offset
            name_size = int.from_bytes(data[here + 26 : here + 28], "little")
            extra_size = int.from_bytes(data[here + 28 : here + 30], "little")
            start = here + _HEADER + name_size + extra_size
            found = _NPY.match(data[start : start + min(member.file_size, 256)])
            if found is None:
                raise ValueError(f"{member.filename} holds other things than plain numbers")
            header = found.end()
            dtype = np.dtype(found["dtype"].decode())
            shape = tuple(int(size) for size in found["shape"].replace(b",", b" ").split())
            if header != 10 + int.from_bytes(found["size"], "little"):
                raise ValueError(f"{member.filename} lies about its header")
            count = math.prod(shape)
            if count * dtype.itemsize != member.file_size - header:
                raise ValueError(f"{member.filename} has another size than its shape says")
            start += header
            if start + count * dtype.itemsize > len(data):
                raise ValueError(f"{member.filename} ends too early")
            view = np.frombuffer(data, dtype=dtype, count=count, offset=start).reshape(shape)
            arrays[member.filename.removesuffix(".npy")] = view
    return arrays
