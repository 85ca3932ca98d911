"""Files changed in ways that a disk, an editor or an attacker may: bytes, JSON, YAML, CSV, tensors.

Each function takes a file's content and a random generator, and gives other content. What they know
of a format lets them pass its outer checks, so that the schema behind is met too.
"""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from typing import Any

Mutation = Callable[[bytes, random.Random], bytes]

#: Values that are wrong nearly everywhere, some of them large.
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**70), 10**99, 10**400, 0.5, -0.0, 1e308),
    *("", "x", "0", "none", "inf", "nan", "-inf", "hub", "a\nb", "\x00", "\x1b[31m", "\ud800"),
    *("../../etc/passwd", "/dev/zero", "=cmd|' /C calc'!A0", "x" * 100_000, "9" * 5000, "é" * 99),
    *(1e-320, "2026-13-45"),
    *([], {}, [[]], [None], {"": None}, {"x": {"x": {}}}, [0] * 1000, ["x"] * 1000),
    *(float("nan"), float("inf"), float("-inf")),
]  # fmt: skip
NESTED = ["[" * 100_000, '{"a":' * 50_000, "[" * 500 + "]" * 500, '{"a":[' * 300 + "]}" * 300]


def flipped(content: bytes, rng: random.Random) -> bytes:
    """One to sixteen bits changed."""
    changed = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    """The end, the beginning or a piece taken away, or all of it."""
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice((content[:first], content[first:], content[:first] + content[last:], b""))


def filled(content: bytes, rng: random.Random) -> bytes:
    """Bytes that don't belong there put in, or a piece repeated."""
    place = rng.randrange(len(content) + 1)
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    put = rng.choice(
        (
            *(b"\0" * 64, b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\n", b"\r", b"'", b'"'),
            *(rng.randbytes(64), content[first:last], b"9" * 6000, b",", b"{", b"[", b"\x1b[2J"),
        )
    )
    return content[:place] + put + content[place:]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    below = [
        deeper
        for key, part in parts
        for deeper in (
            _paths(part, (*path, key)) if isinstance(part, dict | list) else [(*path, key)]
        )
    ]
    return [path, *below]


def _with_value(value: Any, rng: random.Random) -> Any:
    """A value with one part, at any depth, replaced, removed, added or moved."""
    copy = json.loads(json.dumps(value))
    path = rng.choice(_paths(copy)) if isinstance(copy, dict | list) else ()
    if not path:
        return rng.choice(VALUES)
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    kind = rng.randrange(5)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(("unknown", "", "schema_version", "__proto__", "x" * 5000))] = 1
    elif kind == 2 and isinstance(parent, list):
        parent.extend([parent[path[-1]]] * rng.choice((1, 1000)))
    else:
        parent[path[-1]] = rng.choice(VALUES)
    return copy


def json_changed(content: bytes, rng: random.Random) -> bytes:
    """One to three values of a JSON text changed, a key twice, or a bomb in a value's place."""
    value = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 3))):
        value = _with_value(value, rng)
    text = json.dumps(value)
    kind = rng.randrange(12)
    if kind == 0 and text.startswith("{") and len(text) > 2:
        text = "{" + text[1:-1] + ", " + text[1:-1] + "}"
    elif kind == 1:
        text = text.replace(rng.choice(("1", "0", '"', "null")), rng.choice(NESTED), 1)
    elif kind == 2:
        text = rng.choice(NESTED)
    return text.encode("utf-8", "surrogatepass")


def json_lines_changed(content: bytes, rng: random.Random) -> bytes:
    """One line of a journal changed, doubled, removed or moved."""
    lines = content.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        lines[index] = json_changed(lines[index], rng) + b"\n"
    elif kind == 1:
        lines.insert(index, lines[rng.randrange(len(lines))])
    elif kind == 2:
        del lines[index]
    else:
        rng.shuffle(lines)
    return b"".join(lines)


_YAML = [
    "2026-13-45", "!!int abc", "!!float x", "!!binary a", "!!timestamp x", "!!set {a, b}", "@",
    "!!python/object/apply:os.system [ls]", "&a [*a]", "*unknown", "1:59:59", "0x" + "f" * 5000,
    "9" * 5000, ".inf", ".nan", "~", "yes", "''", "[]", "{}", "? [a]", "<<", "1e999", "\t", "%TAG",
    "[" * 3000, "- " * 3000, "{a: " * 3000, "'" + "x" * 50_000 + "'", '"\\0"', '"\\ud800"',
    "|\n  x", "!!omap x",
]  # fmt: skip
_BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 27))


def yaml_changed(content: bytes, rng: random.Random) -> bytes:
    """One line of a YAML text with another value, or doubled; or a bomb of aliases."""
    lines = content.decode().splitlines()
    index = rng.randrange(len(lines))
    key, colon, _ = lines[index].partition(":")
    kind = rng.randrange(8)
    if kind == 0:
        lines.insert(index, lines[index])
    elif kind == 1:
        lines.append(_BOMB)
    elif kind == 2:
        del lines[index]
    elif kind == 3:
        lines[index] = f"{key}{colon} {json.dumps(rng.choice(VALUES))}"
    elif kind == 4:
        lines[index] = f"{rng.choice(_YAML)}: 1"
    else:
        lines[index] = f"{key}{colon} {rng.choice(_YAML)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


_CELLS = [
    *("", "x", "-1", "2", "1e999", "nan", "inf", "9" * 5000, "x" * 200_000, "\x00", "../../x"),
    *("/dev/zero", "=cmd|' /C calc'!A0", "'", '"', "a\nb", "\ud7ff", "é", "none", "{", "[1"),
    *('{"a": 1}', "None"),
]  # fmt: skip


def csv_changed(content: bytes, rng: random.Random) -> bytes:
    """A cell of a table changed, or a column or row doubled, removed or moved."""
    rows = [line.split(",") for line in content.decode().splitlines()]
    row = rows[rng.randrange(len(rows))] if rng.randrange(3) else rows[0]
    place = rng.randrange(len(row))
    kind = rng.randrange(8)
    if kind == 0:
        row.append(row[place])
    elif kind == 1:
        del row[place]
    elif kind == 2:
        for one in rows:
            one.append(rng.choice(_CELLS))
    elif kind == 3:
        rows.insert(rng.randrange(len(rows)), rows[-1])
    elif kind == 4:
        rng.shuffle(rows)
    else:
        row[place] = rng.choice(_CELLS)
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


def safetensors_changed(content: bytes, rng: random.Random) -> bytes:
    """The header of a safetensors file changed, with its own length made to fit."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = content[8 : 8 + length], content[8 + length :]
    kind = rng.randrange(6)
    if kind == 0:
        return struct.pack("<Q", rng.choice((0, 1, 2**32, 2**63, length - 1))) + header + body
    if kind == 1:
        numbers = bytearray(body)
        start = rng.randrange(max(1, len(body) - 4))
        numbers[start : start + 4] = rng.choice((b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\xff" * 4))
        return content[: 8 + length] + bytes(numbers)
    changed = json_changed(header, rng)
    return struct.pack("<Q", len(changed)) + changed + body


def torch_changed(content: bytes, rng: random.Random) -> bytes:
    """An entry of a torch archive changed, its pickle above all, or the archive compressed."""
    packed = rng.randrange(6) == 0
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as new,
    ):
        for entry in old.infolist():
            own = old.read(entry)
            if entry.filename.endswith("data.pkl") or rng.randrange(20) == 0:
                own = rng.choice((flipped, flipped, cut, filled))(own, rng)
            new.writestr(entry.filename, own)
    return stream.getvalue()


ANY: tuple[Mutation, ...] = (flipped, cut, filled)
OF_JSON = (*ANY, json_changed, json_changed, json_changed)
OF_LINES = (*ANY, json_lines_changed)
OF_YAML = (*ANY, yaml_changed, yaml_changed)
OF_CSV = (*ANY, csv_changed, csv_changed)
OF_SAFETENSORS = (*ANY, safetensors_changed, safetensors_changed)
OF_TORCH = (*ANY, torch_changed, torch_changed)
