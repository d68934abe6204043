"""Dirty input: valid files to spoil, pieces that break readers, files that are hostile whole."""

import gzip
import io
import random
from collections.abc import Callable

SUFFIXES = {
    "jsonl": ".jsonl",
    "json": ".json",
    "csv": ".csv",
    "tsv": ".tsv",
    "parquet": ".parquet",
    "rss": ".xml",
    "html": ".html",
    "page": ".txt",
    "lines": ".txt",
}
#: What breaks readers, put into whatever stands there.
PIECES = [
    b"\xff\xfe", b"\xef\xbb\xbf", b"\x00", b"\xed\xa0\x80", b"\xc3(", b"\x1b[2J", b"\r", b"\n\n",
    b'"', b'""', b"\\ud800", b"\\u0000", b"\xe2\x80\xae", b"{", b"}", b"[" * 2000, b"NaN", b"1e999",
    b'{"headline":', b"null", b",,,,", b"\t\t", b"<![CDATA[", b"<![x", b"<!ENTITY a 'b'>", b"&a;",
    b"<script>", b"</title>", b"<!--", b"&#xD800;", b"PAR1", b"\x1f\x8b", "İ".encode(), b"9" * 5000,
    b"x" * 70_000, b"\xf0\x9f\x98\x80", b"\xc2\x85", b"\x0c", b"\x1e", b"\xe2\x80\xa8",
    b'<a href="', b"&#0;", b"<!DOCTYPE x [", b"]]>", b"12\n12\n", b"door\n", b"LEES OOK: ", b";",
    b"'", b"\\",
]  # fmt: skip
SEEDS: dict[str, bytes] = {
    "jsonl": b'{"headline": "Genk wint met 2-1", "teaser": "", "label": "a"}\n{"headline": "b"}\n',
    "json": b'[{"headline": "Genk wint", "teaser": null}, {"headline": "b", "x": {"y": [1]}}]',
    "csv": b'headline,teaser\nGenk wint,"onder, de kop"\nb,NA\n"over\nregels",c\n',
    "tsv": b'headline\tteaser\nGenk wint\tonder\n"b" zegt X\tnull\n',
    "rss": (
        b"<rss version='2.0'><channel><item><title>Genk wint</title><description>&lt;p&gt;x"
        b"</description></item><item><title></title></item></channel></rss>"
    ),
    "html": (
        b"<html><h1>Genk wint in Gent</h1><p>Een lange regel onder de kop.</p><ul><li>"
        b"<a href='x'>Ajax haalt een spits op</a><p>Nog een regel van vijf woorden.</p></ul></html>"
    ),
    "page": b"Genk wint\n\ndoor\nGenk wint\n\nEen lange regel onder de kop.\n\n12\n12\nKop twee\n",
    "lines": b"Genk wint\nGent haalt spits\tonder de kop\n",
}


def parquet(rows: int = 2) -> bytes:
    """A whole Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    headlines = [None if n % 2 else f"Genk wint {n}" for n in range(rows)]
    pq.write_table(pa.table({"headline": headlines, "teaser": ["", "x"] * (rows // 2)}), stream)
    return stream.getvalue()


def packed(piece: bytes, times: int) -> bytes:
    """A gzip file of a piece again and again, made without holding what it unpacks to."""
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=1) as file:
        for _ in range(times):
            file.write(piece)
    return stream.getvalue()


def parquet_bomb() -> bytes:
    """A small Parquet file with a value of 1.2 MB that a thousand rows share."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    shared = pa.array(["x" * 1_200_000]).dictionary_encode().take(pa.array([0] * 1000))
    pq.write_table(pa.table({"headline": shared}), stream, store_schema=False)
    return stream.getvalue()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A valid file after some accidents."""
    for _ in range(chance.randint(0, 6)):
        place = chance.randint(0, len(data))
        kind = chance.random()
        if kind < 0.5:
            data = data[:place] + chance.choice(PIECES) + data[place:]
        elif kind < 0.65:
            data = data[:place] + data[place + chance.randint(1, 40) :]
        elif kind < 0.8:
            data = data[:place] + chance.randbytes(chance.randint(1, 20)) + data[place:]
        elif kind < 0.9:
            data = data[:place] + bytes([chance.randrange(256)]) + data[place + 1 :]
        else:
            data = data[:place] + data[: chance.randint(0, 400)] + data[place:]
    return data


def soup(data: bytes, chance: random.Random) -> bytes:
    """Bytes by chance: of all kinds, or of what such a file is made of."""
    kind = chance.random()
    if kind < 0.3:
        return chance.randbytes(chance.randint(0, 300))
    tokens = [data[n : n + chance.randint(1, 9)] for n in range(0, len(data), 7)]
    parts = chance.choices(tokens + PIECES, k=chance.randint(0, 40))
    return b"".join(part[:3000] for part in parts)


# Hostile whole ---------------------------------------------------------------------------------

_BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "' + b"lol" * 100 + b'">'
    + b"".join(
        b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
    )
    + b']><rss version="2.0"><channel><item><title>&j;</title></item></channel></rss>'
)  # fmt: skip
_EXTERNAL = (
    b'<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    b'<rss version="2.0"><channel><item><title>kop &x;</title></item></channel></rss>'
)
_LARGE = 10 << 20

#: Name -> format and content; made when asked for, since some are large.
HOSTILE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing": ("jsonl", lambda: b""),
    "a byte order mark": ("jsonl", lambda: b"\xef\xbb\xbf"),
    "UTF-16": ("csv", lambda: "headline\nGenk\n".encode("utf-16")),
    "UTF-16 without a mark": ("lines", lambda: "Genk wint\n".encode("utf-16-le")),
    "UTF-32": ("lines", lambda: "Genk wint\n".encode("utf-32")),
    "Latin-1": ("lines", lambda: "Zoë scoort één keer\n".encode("latin-1")),
    "a line of 10 MB": (
        "jsonl",
        lambda: b'{"headline": "' + b"x" * _LARGE + b'"}\n{"headline": "b"}',
    ),
    "a line of 10 MB in lines": ("lines", lambda: b"x" * _LARGE + b"\nkop\n"),
    "a line of 10 MB in a table": ("csv", lambda: b"headline\n" + b"x" * _LARGE + b"\nkop\n"),
    "a field of 10 MB": (
        "csv",
        lambda: b'headline,x\nkop,"' + (b"x" * 999 + b"\n") * (_LARGE // 1000) + b'"\nkop,y\n',
    ),
    "a header of 10 MB": ("csv", lambda: b"x," * (_LARGE // 2)),
    "200,000 empty fields": ("csv", lambda: b"headline\n" + b"," * 200_000 + b"\nkop\n"),
    "half a million columns": ("csv", lambda: b"headline" + b",x" * 500_000 + b"\nkop\n"),
    "a headline of 10 MB": ("json", lambda: b'[{"headline": "' + b"x" * _LARGE + b'"}]'),
    "10 MB of blanks": ("jsonl", lambda: b" " * _LARGE),
    "2 MB of line ends": ("jsonl", lambda: b"\n" * (_LARGE // 4)),
    "10 MB of NULs": ("lines", lambda: b"\0" * _LARGE),
    "lists 100,000 deep": ("jsonl", lambda: b"[" * 100_000 + b"\n" + b'{"headline": "b"}'),
    "objects 100,000 deep": ("jsonl", lambda: b'{"a":' * 100_000 + b"\n" + b'{"headline": "b"}'),
    "a row 100,000 deep": (
        "jsonl",
        lambda: b'{"headline": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ),
    "a row 900 deep": (
        "jsonl",
        lambda: b'{"headline": "a", "x": ' + b"[" * 900 + b"]" * 900 + b"}",
    ),
    "JSON 100,000 deep": ("json", lambda: b"[" * 100_000 + b"]" * 100_000),
    "an item 100,000 deep": ("json", lambda: b'[{"headline": "a"}, ' + b"[" * 100_000),
    "200,000 empty objects": ("json", lambda: b"[" + b"{}," * 200_000 + b"{}]"),
    "200,000 empty lists": ("json", lambda: b'{"x": [' + b"[]," * 200_000 + b"[]]}"),
    "a number of 200,000 digits": ("json", lambda: b'[{"headline": ' + b"9" * 200_000 + b"}]"),
    "quotes that never close": ("csv", lambda: b"headline,x\n" + b'"a\n' * 50_000),
    "quotes that nearly close": ("csv", lambda: b"headline,x\n" + b'a"b,"c\n' * 50_000),
    "only quotes": ("csv", lambda: b"headline\n" + b'"' * 999_999),
    "an entity bomb": ("rss", lambda: _BOMB),
    "an entity bomb in UTF-16": ("rss", lambda: _BOMB.decode().encode("utf-16")),
    "an external entity": ("rss", lambda: _EXTERNAL),
    "an external entity in UTF-16": ("rss", lambda: _EXTERNAL.decode().encode("utf-16")),
    "an entity bomb in a page": ("html", lambda: _BOMB),
    "the name of a file": ("rss", lambda: b"/etc/passwd"),
    "an address": ("rss", lambda: b"http://127.0.0.1:9/feed"),
    "a feed 50,000 deep": ("rss", lambda: b"<rss version='2.0'>" + b"<a>" * 50_000),
    "a feed of 300,000 tags": ("rss", lambda: b"<rss version='2.0'>" + b"<a/>" * 300_000),
    "a feed with a title of 5 MB": (
        "rss",
        lambda: SEEDS["rss"].replace(b"Genk wint", b"x " * 2_500_000),
    ),
    "a feed with half tags": ("rss", lambda: SEEDS["rss"].replace(b"Genk", b"&lt;a " * 50_000)),
    "a feed of half tags": ("rss", lambda: b"<rss version='2.0'><item><title>" + b"<a " * 50_000),
    "elements 100,000 deep": ("html", lambda: b"<div>" * 100_000 + b"kop"),
    "headings 100,000 deep": ("html", lambda: b"<h1>een twee drie " * 100_000),
    "links 100,000 deep": ("html", lambda: b"<a>een twee drie vier " * 100_000),
    "tags that never end": ("html", lambda: b'<a x="' * 100_000),
    "tags whose quotes never end": ("html", lambda: b'<a ">" ' * 100_000 + b'"'),
    "tags that are not closed": ("html", lambda: b"<a " * 200_000 + b">"),
    "comments that never end": ("html", lambda: b"<!--" * 100_000),
    "scripts": ("html", lambda: b"<script>alert('<h1>een twee drie</h1>')" * 100_000),
    "attributes without end": ("html", lambda: b"<a " + b"x=y " * 500_000),
    "references without end": ("html", lambda: b"<h1>" + b"&amp" * 500_000),
    "a page of counts": ("page", lambda: b"12\n" * 100_000),
    "a page of titles": ("page", lambda: b"kop\ndoor\n" * 100_000),
    "a bomb of gzip as lines": ("jsonl", lambda: packed(b"x" * (1 << 20), 200)),
    "a bomb of gzip as JSON": ("json", lambda: packed(b"[" + b" " * (1 << 20), 200)),
    "a bomb of gzip as a page": ("html", lambda: packed(b"<h1>" * (1 << 18), 200)),
    "a bomb of gzip as a feed": ("rss", lambda: packed(b"<rss>" * (1 << 18), 200)),
    "only the head of gzip": ("csv", lambda: gzip.compress(SEEDS["csv"])[:10]),
    "no Parquet": ("parquet", lambda: b"PAR1" + b"x" * 1000 + b"PAR1"),
    "half a Parquet": ("parquet", lambda: parquet(5000)[:-200]),
    "a value of Parquet that a thousand rows share": ("parquet", parquet_bomb),
    "a Parquet that claims a large end": ("parquet", lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1"),
}
