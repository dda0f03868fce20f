"""Our file readers and writers against the official ones: the safetensors wheel and NumPy.

What they write we read, what we write they read, what they refuse we refuse. Where we are
stricter on purpose, STRICTER names the case and why; docs/reference/files.md says the same.
"""

import io
import json
import random
import struct

import numpy as np
import pytest
import safetensors

core = pytest.importorskip("elsa_attention._core")

# Name in the constructor of the official TensorSpec, name in the file, bits of an element.
OFFICIAL_DTYPES = [
    ("bool", "BOOL", 8),
    ("float4_e2m1fn_x2", "F4", 4),
    ("uint8", "U8", 8),
    ("int8", "I8", 8),
    ("float8_e5m2", "F8_E5M2", 8),
    ("float8_e4m3fn", "F8_E4M3", 8),
    ("float8_e8m0fnu", "F8_E8M0", 8),
    ("float8_e4m3fnuz", "F8_E4M3FNUZ", 8),
    ("float8_e5m2fnuz", "F8_E5M2FNUZ", 8),
    ("int16", "I16", 16),
    ("uint16", "U16", 16),
    ("float16", "F16", 16),
    ("bfloat16", "BF16", 16),
    ("int32", "I32", 32),
    ("uint32", "U32", 32),
    ("float32", "F32", 32),
    ("complex64", "C64", 64),
    ("float64", "F64", 64),
    ("int64", "I64", 64),
    ("uint64", "U64", 64),
]
SHAPES = [(), (4,), (3, 2), (2, 0, 4), (1, 2, 3, 4)]


def raw(header, data=b"", size=None):
    """The bytes of a safetensors file with this header and data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def tensor(dtype="U8", shape=(1,), offsets=(0, 1)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def official_read(data):
    return {
        name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in safetensors.deserialize(data)
    }


def official_accepts(data):
    try:
        official_read(data)
    except safetensors.SafetensorError:
        return False
    return True


def our_read(data, tmp_path):
    path = tmp_path / "x.safetensors"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return core.read_safetensors(str(path))


def we_accept(data, tmp_path):
    try:
        our_read(data, tmp_path)
    except ValueError as error:
        assert "expected" in str(error) and "\n" not in str(error)
        return False
    return True


def official_bytes(rng, metadata):
    """A file with every type and shape that the official writer can write, and its contents."""
    contents = {}
    specs = {}
    alive = []
    for written, stored, bits in OFFICIAL_DTYPES:
        for shape in SHAPES:
            if bits == 4 and not shape:
                continue  # half a byte
            count = int(np.prod(shape, dtype=np.int64))
            # The constructor counts pairs of F4 in the last axis; the file counts elements.
            stored_shape = (*shape[:-1], 2 * shape[-1]) if bits == 4 else shape
            data = rng.bytes(count * (8 if bits == 4 else bits) // 8)
            buffer = np.frombuffer(data or b"\0", np.uint8)
            alive.append(buffer)
            name = f'{stored} "{shape}" \u00e9\n'
            specs[name] = safetensors.TensorSpec(
                dtype=written, shape=shape, data_ptr=buffer.ctypes.data, data_len=len(data)
            )
            contents[name] = (stored, stored_shape, data)
    return safetensors.serialize(specs, metadata), contents


@pytest.mark.parametrize("metadata", [None, {"k\u00e9": 'v"\\\n\t\x01\x7f'}])
def test_we_read_what_the_official_writer_writes(tmp_path, metadata):
    data, contents = official_bytes(np.random.default_rng(1), metadata)
    got_metadata, got = our_read(data, tmp_path)
    assert got == contents
    assert got_metadata == (metadata or {})


@pytest.mark.parametrize("metadata", [None, {"k\u00e9": 'v"\\\n\t\x01\x7f'}])
def test_our_file_is_byte_for_byte_the_official_one(tmp_path, metadata):
    data, contents = official_bytes(np.random.default_rng(2), metadata)
    path = tmp_path / "ours.safetensors"
    core.write_safetensors(str(path), contents, metadata or {})
    assert path.read_bytes() == data


def test_the_official_readers_load_what_we_write(tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / "ours.safetensors"
    tensors = {
        "a": ("F32", values.shape, values.tobytes()),
        "f6": ("F6_E3M2", (4,), b"abc"),
        "none": ("I64", (0, 3), b""),
        "one": ("BOOL", (), b"\1"),
    }
    core.write_safetensors(str(path), tensors, {"b": "2", "a": "1"})
    assert official_read(path.read_bytes()) == tensors
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata() == {"a": "1", "b": "2"}
        assert np.array_equal(file.get_tensor("a"), values)


ACCEPTED = {
    "no tensors": raw({}),
    "empty metadata": raw({"__metadata__": {}}),
    "spaces behind the header": raw(b"{}      "),
    "rank 0": raw({"a": tensor("F32", (), (0, 4))}, b"abcd"),
    "size 0": raw({"a": tensor("F32", (0, 7), (0, 0))}),
    "size 0 between": raw(
        {
            "a": tensor("U8", (0,), (1, 1)),
            "b": tensor(),
            "c": tensor("U8", (0,), (0, 0)),
            "d": tensor("U8", (1,), (1, 2)),
        },
        b"xy",
    ),
    "any order in the header": raw({"b": tensor(offsets=(1, 2)), "a": tensor()}, b"xy"),
    "data not aligned": raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"abcd"),
    "empty name": raw({"": tensor()}, b"x"),
    "NUL in a name": raw({"\0": tensor()}, b"x"),
    "large extent beside a zero": raw({"a": tensor("U8", (2**59, 0), (0, 0))}),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_both_accept(tmp_path, name):
    expected = official_read(ACCEPTED[name])
    assert our_read(ACCEPTED[name], tmp_path)[1] == expected


GOOD = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
REFUSED = {
    "empty file": b"",
    "seven bytes": b"1234567",
    "no header": raw(b""),
    "header over 100 MB": raw({}, size=100_000_001),
    "header size 2^64 - 1": raw({}, size=2**64 - 1),
    "header beyond the file": raw({}, size=3),
    "not UTF-8": raw(b'{"\xff":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "surrogate in UTF-8": raw(b'{"__metadata__":{"a":"\xed\xa0\x80"}}'),
    "lone surrogate escape": raw(b'{"__metadata__":{"a":"\\ud800"}}'),
    "array": raw(b"[]"),
    "null": raw(b"null"),
    "byte order mark": raw(b"\xef\xbb\xbf{}"),
    "NUL behind": raw(b"{}\0"),
    "NUL and more behind": raw(b'{}\0{"a":1}'),
    "text behind": raw(b"{}x"),
    "two objects": raw(b"{}{}"),
    "cut": raw(GOOD[:-1], b"x"),
    "control character": raw(b'{"__metadata__":{"a":"\x01"}}'),
    "single quotes": raw(GOOD.replace(b'"', b"'"), b"x"),
    "trailing comma": raw(GOOD[:-1] + b",}", b"x"),
    "comment": raw(b"{/**/}"),
    "metadata twice": raw(b'{"__metadata__":{},"__metadata__":{}}'),
    "field twice": raw(GOOD.replace(b'"dtype":"U8"', b'"dtype":"U8","dtype":"U8"'), b"x"),
    "metadata of numbers": raw({"__metadata__": {"a": 1}}),
    "metadata null value": raw({"__metadata__": {"a": None}}),
    "metadata array": raw({"__metadata__": ["a"]}),
    "metadata nested": raw({"__metadata__": {"a": {}}}),
    "unknown dtype": raw({"a": tensor("F128")}, b"x"),
    "lower-case dtype": raw({"a": tensor("u8")}, b"x"),
    "dtype number": raw({"a": tensor(8)}, b"x"),
    "no dtype": raw({"a": {"shape": [1], "data_offsets": [0, 1]}}, b"x"),
    "no shape": raw({"a": {"dtype": "U8", "data_offsets": [0, 1]}}, b"x"),
    "no offsets": raw({"a": {"dtype": "U8", "shape": [1]}}, b"x"),
    "tensor null": raw({"a": None}),
    "one offset": raw({"a": tensor(offsets=(0,))}, b"x"),
    "three offsets": raw({"a": tensor(offsets=(0, 1, 1))}, b"x"),
    "negative offset": raw({"a": tensor(offsets=(-1, 0))}, b"x"),
    "fractional offset": raw({"a": tensor(offsets=(0, 1.0))}, b"x"),
    "offset as text": raw({"a": tensor(offsets=("0", "1"))}, b"x"),
    "offset 2^64": raw({"a": tensor(offsets=(0, 2**64))}, b"x"),
    "offset -0": raw(GOOD.replace(b"[0,1]", b"[-0,1]"), b"x"),
    "leading zero": raw(GOOD.replace(b"[0,1]", b"[0,01]"), b"x"),
    "offsets reversed": raw({"a": tensor("U8", (0,), (1, 0))}, b"x"),
    "negative extent": raw({"a": tensor("U8", (-1,))}, b"x"),
    "fractional extent": raw({"a": tensor("U8", (1.0,))}, b"x"),
    "product overflow": raw({"a": tensor("U8", (2**32, 2**32), (0, 0))}),
    "product overflow before a zero": raw({"a": tensor("U8", (2**63, 2, 0), (0, 0))}),
    "bits overflow": raw({"a": tensor("F64", (2**61,), (0, 0))}),
    "span too small": raw({"a": tensor("F32", (1,), (0, 3))}, b"abc"),
    "span too large": raw({"a": tensor("F32", (1,), (0, 5))}, b"abcde"),
    "part of a byte": raw({"a": tensor("F4", (3,), (0, 2))}, b"ab"),
    "hole at the start": raw({"a": tensor(offsets=(1, 2))}, b"xy"),
    "hole between": raw({"a": tensor(), "b": tensor(offsets=(2, 3))}, b"xyz"),
    "overlap": raw({"a": tensor("U8", (2,), (0, 2)), "b": tensor("U8", (2,), (1, 3))}, b"xyz"),
    "same bytes twice": raw({"a": tensor(), "b": tensor()}, b"x"),
    "size 0 inside another": raw({"a": tensor("U8", (2,), (0, 2)), "b": tensor("U8", (0,), (1, 1))},
                                 b"xy"),
    "data too long": raw({"a": tensor()}, b"xy"),
    "data too short": raw({"a": tensor("U8", (2,), (0, 2))}, b"x"),
    "data without tensors": raw({}, b"x"),
    "deep nesting": raw(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_both_refuse(tmp_path, name):
    assert not official_accepts(REFUSED[name])
    assert not we_accept(REFUSED[name], tmp_path)


STRICTER = {
    # One of the two would win silently.
    "tensor twice": raw(GOOD[:-1] + b"," + GOOD[1:], b"x"),
    "metadata key twice": raw(b'{"__metadata__":{"a":"1","a":"2"}}'),
    # The format: fields are dtype, shape and data_offsets, metadata is an object of strings.
    "unknown field": raw({"a": {**tensor(), "x": 1}}, b"x"),
    "tensor as an array": raw({"a": ["U8", [1], [0, 1]]}, b"x"),
    "metadata null": raw({"__metadata__": None}),
    # The format: the header begins with '{' and may be followed by spaces (0x20).
    "space before the header": raw(b" {}"),
    "newline behind the header": raw(b"{}\n"),
    # Strides of such shapes overflow 64-bit integers.
    "overflow behind a zero": raw({"a": tensor("U8", (0, 2**32, 2**32), (0, 0))}),
    "extent 2^64 - 1": raw({"a": tensor("U8", (2**64 - 1, 0), (0, 0))}),
}


@pytest.mark.parametrize("name", STRICTER)
def test_we_are_stricter_here_on_purpose(tmp_path, name):
    assert official_accepts(STRICTER[name])
    assert not we_accept(STRICTER[name], tmp_path)


def test_whatever_we_accept_the_official_reader_reads_the_same(tmp_path):
    header = (
        b'{"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        b'"x":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},'
        b'"z":{"dtype":"U8","shape":[],"data_offsets":[32,33]}} '
    )
    pieces = [b'"', b"{", b"}", b"[", b"]", b",", b" ", b"0", b"-1", b"1e1", b"\n", b"\xc3\xa9"]
    seed = 5
    rng = random.Random(seed)
    accepted = 0
    for case in range(3000):
        text = bytearray(header)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(text))
            kind = rng.randrange(4)
            if kind == 0:
                text[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del text[at : at + rng.randint(1, 4)]
            elif kind == 2:
                text[at:at] = rng.choice(pieces)
            else:
                text[at : at + 1] = rng.choice(pieces)
        data = raw(bytes(text), b"x" * 33)
        if we_accept(data, tmp_path):
            accepted += 1
            assert our_read(data, tmp_path)[1] == official_read(data), f"seed {seed} case {case}"
    assert accepted > 20


# NumPy's .npy files.

NPY_DTYPES = {
    "?": "BOOL", "u1": "U8", "i1": "I8", "u2": "U16", "i2": "I16", "f2": "F16", "u4": "U32",
    "i4": "I32", "f4": "F32", "u8": "U64", "i8": "I64", "f8": "F64", "c8": "C64",
}  # fmt: skip


def npy_bytes(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", NPY_DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_npy_files_cross_both_ways(tmp_path, dtype, shape):
    count = int(np.prod(shape, dtype=np.int64))
    array = np.arange(count).astype(dtype).reshape(shape)
    path = tmp_path / "x.npy"
    expected = (NPY_DTYPES[dtype], shape, array.tobytes())
    for version in [(1, 0), (2, 0), (3, 0)]:
        path.write_bytes(npy_bytes(array, version))
        assert core.read_npy(str(path)) == expected
    core.write_npy(str(path), *expected)
    assert path.read_bytes() == npy_bytes(array, (1, 0))
    loaded = np.load(path, allow_pickle=False)
    assert loaded.dtype == array.dtype and loaded.shape == array.shape
    assert loaded.tobytes() == array.tobytes()


NPY_REFUSED = {
    "empty": (b"", ValueError),
    "cut header": (npy_bytes(np.zeros(3))[:40], ValueError),
    "cut data": (npy_bytes(np.zeros(3))[:-1], ValueError),
    "data too long": (npy_bytes(np.zeros(3)) + b"x", ValueError),
    "Fortran order": (npy_bytes(np.asfortranarray(np.zeros((2, 3)))), RuntimeError),
    "big endian": (npy_bytes(np.zeros(3, ">f4")), RuntimeError),
    "text": (npy_bytes(np.array(["a"])), RuntimeError),
    "record": (npy_bytes(np.zeros(2, [("x", "f4")])), RuntimeError),
    "double complex": (npy_bytes(np.zeros(2, "c16")), RuntimeError),
}


@pytest.mark.parametrize("name", NPY_REFUSED)
def test_npy_refusals_name_the_reason(tmp_path, name):
    data, error = NPY_REFUSED[name]
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    with pytest.raises(error, match="expected .*, got "):
        core.read_npy(str(path))


def test_a_missing_file_is_an_os_error(tmp_path):
    for read in (core.read_npy, core.read_safetensors):
        with pytest.raises(OSError, match="No such file"):
            read(str(tmp_path / "none"))
