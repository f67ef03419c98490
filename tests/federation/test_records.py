import io
import zipfile

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given, settings
from hypothesis import strategies as st

from medfl.errors import ReplyError
from medfl.federation.records import from_record, to_record


def forged(data: bytes, *, stype: str = "numpy.ndarray") -> ArrayRecord:
    return ArrayRecord({"w": Array(dtype="float32", shape=(1,), stype=stype, data=data)})


def header(text: str) -> bytes:
    padded = text.encode() + b" " * 20 + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, w=np.ones(1))
    return file.getvalue()


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array(3, dtype=np.int64),
        np.zeros((0, 4)),
        np.array([True]),
    ],
)
def test_arrays_come_back_with_shape_type_and_order(array: np.ndarray) -> None:
    found = from_record(to_record({"b": array, "a": array}))
    assert list(found) == ["b", "a"]
    np.testing.assert_array_equal(found["a"], array, strict=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an array",
        archive(),
        archive()[:40],
        b"PK\x03\x04" + b"\0" * 40,
        objects(),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,), }"),
        header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,), }"),
        header("(((((("),
        header("'''"),
        header("__import__('os').getcwd()"),
    ],
)
def test_bytes_that_are_no_array_are_refused_whatever_they_are(data: bytes) -> None:
    with pytest.raises(ReplyError) as caught:
        from_record(forged(data))
    assert caught.value.reason == "not_an_array"


def test_another_serialization_is_refused() -> None:
    with pytest.raises(ReplyError):
        from_record(forged(b"\x80\x04.", stype="pickle"))


@settings(deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_no_bytes_do_anything_but_that(data: bytes, as_array: bool) -> None:
    prefix = b"\x93NUMPY\x01\x00" if as_array else b""
    try:
        found = from_record(forged(prefix + data))
    except ReplyError:
        return
    assert isinstance(found["w"], np.ndarray)


def test_zip_files_are_really_what_numpy_takes_for_arrays() -> None:
    assert zipfile.is_zipfile(io.BytesIO(archive()))
