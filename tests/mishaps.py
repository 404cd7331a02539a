"""Files damaged on their way: bytes changed, cut out, inserted or repeated, or text in another encoding."""

from random import Random

PIECES = (
    *(bytes([byte]) for byte in b"\0\xff\xc3\r\n\t\"',;#&=[]{} "),
    *(b"\r\n", b"\n\n", b"#0", b"#enc#", b"train", b"test", b"zh", b"\x1f\x8b\x08", b"\xef\xbb\xbf", b"\xff\xfe"),
    *(b"\\ud800", b"\\u0000", b"&#39;", b"&amp;amp;", b"&#xD800;", b"null", b"1e999", b"-1", b"9" * 30, b"9" * 5000),
    *(b"\xe2\x80\xa8", b"\xe2\x80\x8b", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
    *(byte * 20_000 for byte in (b"x", b"[", b'"', b"\n", b"\0")),
)
KINDS = ("flip", "cut", "end", "put", "random", "repeat", "encode")
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "gb18030", "shift_jis")


def _flipped(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :] if data else data


def _cut(data: bytes, start: int, length: int) -> bytes:
    return data[:start] + data[start + length :]


def _put_in(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at:]


def _repeated(data: bytes, start: int, length: int, times: int) -> bytes:
    return data[:start] + data[start : start + length] * times + data[start + length :]


def _encoded(data: bytes, encoding: str) -> bytes:
    return data.decode("utf-8", "replace").encode(encoding, "replace")


def mutated(data: bytes, random: Random) -> bytes:
    """`data` after one to four mishaps."""
    for kind in random.choices(KINDS, k=random.randint(1, 4)):
        at = random.randrange(max(1, len(data)))
        if kind == "flip":
            data = _flipped(data, at, random.randint(1, 255))
        elif kind == "cut":
            data = _cut(data, at, random.randint(1, 64))
        elif kind == "end":
            data = data[:at]
        elif kind == "put":
            data = _put_in(data, at, random.choice(PIECES))
        elif kind == "random":
            data = _put_in(data, at, random.randbytes(random.randint(1, 16)))
        elif kind == "repeat":
            data = _repeated(data, at, random.randint(1, 64), random.choice((2, 3, 1000)))
        else:
            data = _encoded(data, random.choice(ENCODINGS))
    return data
