"""Headlines: bounded memory, light start, hostile bytes, and pages that people save."""

import contextlib
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kopwijzer import headlines
from kopwijzer.errors import KopwijzerError
from kopwijzer.headlines import FORMATS, Headline, read

FIXTURES = Path(__file__).parent / "fixtures"
#: What the formats are made of, so that chance finds its way into their readers.
PIECES = [
    *(b"headline,teaser\n", b"headline\tteaser\n", b'"', b",", b"\n", b"\r", b"\0"),
    *(b'{"headline": "a"}', b"{", b"[", b"]", b"\xef\xbb\xbf", b"\xff\xfe", b"PAR1"),
    *(b"<rss version='2.0'><channel><item><title>", b"</title>", b"<?xml encoding='utf-7'?>"),
    *(b"<h1>", b"<a>", b"<p>", b"<![CDATA[", b"<!--", b"&#x0;", b"&lt;", b"door\n", b"12\n12\n"),
]


def put(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_an_endless_line_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"headline\n" if "csv" in name else b"")
        for _ in range(64):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"headline": "daarna"}\n')
    tracemalloc.start()
    try:
        rows = list(read(path, on_bad_row="keep"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "a line of 67,108,8" in str(rows[0].error)
    assert "daarna" in rows[1].headline
    assert peak < 16 << 20


def test_many_rows_take_no_memory(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b'{"headline": "kop", "teaser": "onder de kop"}\n' * 50_000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(path)) == 50_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_plain_text_is_read_without_the_heavy_libraries(tmp_path: Path) -> None:
    path = put(tmp_path, "a.jsonl", b'{"headline": "a"}\n')
    code = (
        "import sys; from kopwijzer.headlines import read; print(len(list(read(sys.argv[1])))); "
        "heavy = 'datasets pyarrow pandas feedparser bs4 sklearn joblib numpy'; "
        "print(*(name for name in heavy.split() if name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(headlines.__file__).parent.parent)},
        check=True,
    )
    assert done.stdout.split() == ["1"], done.stderr


def test_atom_is_a_feed_too(tmp_path: Path) -> None:
    feed = (
        b'<feed xmlns="http://www.w3.org/2005/Atom"><title>x</title><entry><title>Genk wint</title>'
        b'<summary type="html">&lt;p&gt;Twee &lt;i&gt;goals&lt;/i&gt;.&lt;/p&gt;</summary>'
        b"<updated>2026-01-05T10:00:00Z</updated></entry></feed>"
    )
    (row,) = read(put(tmp_path, "a.atom", feed))
    assert (row.headline, row.teaser) == ("Genk wint", "Twee goals.")
    assert str(row.date).startswith("2026-01-05T10:00:00")


def test_a_feed_reads_no_other_file(tmp_path: Path) -> None:
    secret = put(tmp_path, "secret.txt", b"geheim")
    feed = (
        f'<!DOCTYPE rss SYSTEM "file://{secret}"><rss version="2.0"><channel><item>'
        "<title>Genk wint</title></item></channel></rss>"
    )
    rows = list(read(put(tmp_path, "a.xml", feed.encode()), on_bad_row="keep"))
    assert "geheim" not in str(rows)


def test_an_html_page_is_its_article_and_its_listing() -> None:
    assert [(row.headline, row.teaser) for row in read(FIXTURES / "page.html")] == [
        (
            "Helmond Sport verrast koploper met late treffer",
            "Diep in blessuretijd besliste invaller Rik Maas de wedstrijd in Helmond.",
        ),
        (
            "NEC hoopt op snelle terugkeer van aanvoerder",
            "De middenvelder raakte zondag geblesseerd & moest van het veld.",
        ),
        (
            "Trainer Vos: ‘Wij hebben hier te weinig’",
            "De oefenmeester van Zwolle was na afloop niet te spreken over zijn ploeg.",
        ),
        ("Bestuur Emmen maakt jaarcijfers later bekend", ""),
    ]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.text(max_size=20).map(lambda text: json.dumps({"headline": text}).encode()),
            st.sampled_from([b'{"headline": ""}', b"[]", b"{", b'{"headline": 1}', b"null"]),
        ),
        max_size=8,
    )
)
def test_one_record_for_each_line(tmp_path: Path, lines: list[bytes]) -> None:
    data = b"x\n" + b"\n".join(lines)
    places = [
        f"a.jsonl line {number}" for number, line in enumerate(data.split(b"\n"), 1) if line.strip()
    ]
    rows = read(put(tmp_path, "a.jsonl", data), on_bad_row="keep")
    assert [row.where for row in rows] == places


@settings(max_examples=200)
@given(
    st.sampled_from([form for form in FORMATS if form != "dataset"]),
    st.lists(st.one_of(st.binary(max_size=8), st.sampled_from(PIECES)), max_size=10),
)
def test_whatever_bytes_there_are_rows_come_or_a_sentence(
    tmp_path: Path, form: str, pieces: list[bytes]
) -> None:
    path = put(tmp_path, "a.bin", b"".join(pieces))
    rows: list[Headline] = []
    with contextlib.suppress(KopwijzerError):  # anything else is a traceback
        rows.extend(read(path, input_format=form, on_bad_row="keep"))
    assert all(row.error or row.headline.strip() for row in rows)


@pytest.mark.parametrize("markup", [b"<p><![<p>x", b"<![ if", b"<![x[ foo", b"<![CDATA[kop]]>"])
def test_marked_sections_that_nobody_knows_stop_no_page(tmp_path: Path, markup: bytes) -> None:
    page = put(tmp_path, "a.html", markup + b"<h1>Genk wint in Gent</h1>")
    assert all(isinstance(row, Headline) for row in read(page, on_bad_row="keep"))


def test_a_pipe_without_a_name_is_read_like_stdin(tmp_path: Path) -> None:
    assert list(read("/dev/null")) == []
    put(tmp_path, "rows", b'{"headline": "kop"}\n')
    descriptor = os.open(tmp_path / "rows", os.O_RDONLY)
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, os.read(descriptor, 100))
        os.close(write_end)
        assert [row.headline for row in read(f"/dev/fd/{read_end}")] == ["kop"]
    finally:
        os.close(descriptor)
        os.close(read_end)
