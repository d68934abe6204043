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

from kopwijzer import headlines, pages
from kopwijzer.errors import BadSource, KopwijzerError
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


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            "<h1>Genk wint met 2-1</h1><p>Een late treffer in de slotfase.</p>",
            [("Genk wint met 2-1", "Een late treffer in de slotfase.")],
        ),
        ("<H1 class='a > b' data-x=\"<h2>\">Genk<br>wint   weer</H1>", [("Genk wint weer", "")]),
        (
            "<h1>Genk <b>wi</b>nt &amp; &#039;juicht&#039; &euro; 3</h1>",
            [("Genk wint & 'juicht' € 3", "")],
        ),
        (
            "<title>Krant over voetbal en meer</title><script>'<h1>een twee drie</h1>'</script>"
            "<style>h1 {a: b}</style><!-- <h1>een twee drie</h1> --><h1>Genk wint weer</h1>",
            [("Genk wint weer", "")],
        ),
        (
            "<nav><a>een twee drie vier</a></nav><footer><h2>een twee drie</h2></footer>"
            "<form><h1>een twee drie</h1></form><h1>Genk wint weer</h1>",
            [("Genk wint weer", "")],
        ),
        (
            "<h2>Meer over dit onderwerp</h2><ul><li><a href=x>Ajax haalt spits op</a></ul>",
            [("Ajax haalt spits op", "")],
        ),
        (
            "<a href=x><h3>Ajax haalt spits</h3><p>Hij tekent voor drie jaar.</p></a>",
            [("Ajax haalt spits", "Hij tekent voor drie jaar.")],
        ),
        (
            "<h3><a href=x>Ajax haalt spits</a></h3><a>Lees meer</a><p>Hij tekent voor drie jaar.",
            [("Ajax haalt spits", "Hij tekent voor drie jaar.")],
        ),
        (
            "<a>Ajax haalt een spits</a><a>Genk verkoopt een spits</a><p>Hij tekent voor drie jaar",
            [
                ("Ajax haalt een spits", ""),
                ("Genk verkoopt een spits", "Hij tekent voor drie jaar"),
            ],
        ),
        ("<h1>Genk wint weer</h1><h1>Genk wint weer</h1>", [("Genk wint weer", "")]),
        ("<h1>Lees ook dit hier</h1><a>Lees verder over dit stuk</a>", []),
        ("<h1>Genk wint", []),
        ("<h1>Genk wint weer", [("Genk wint weer", "")]),
        ("<h1>3 < 4 en 5 > 2 & meer</h1>", [("3 < 4 en 5 > 2 & meer", "")]),
        ('<p class="open><h1>Genk wint weer</h1>', [("Genk wint weer", "")]),
        ("<script>nooit dicht <h1>een twee drie</h1>", []),
        ("<!-- nooit dicht <h1>een twee drie</h1>", []),
        (
            "<?xml version='1.0'?><!DOCTYPE html><html><h1>Genk wint weer</h1></html>",
            [("Genk wint weer", "")],
        ),
        (
            "<svg><h1>een twee drie</svg><div></p></b><h1>Genk wint weer</h1>",
            [("Genk wint weer", "")],
        ),
        (
            "<img src='data:image/png;base64," + "A" * 500_000 + "'/><h1>Genk wint weer</h1>",
            [("Genk wint weer", "")],
        ),
    ],
)
def test_a_page_gives_what_people_read(page: str, expected: list[tuple[str, str]]) -> None:
    found = pages.from_html(page.encode())
    assert [(record["headline"], record["teaser"]) for record in found] == expected


@pytest.mark.parametrize(
    ("head", "encoding"),
    [
        ("", "utf-8"),
        ("", "utf-8-sig"),
        ("", "utf-16"),
        ("", "cp1252"),
        ('<meta charset="utf-8">', "cp1252"),
        ('<meta charset="iso-8859-1">', "cp1252"),
        ("<meta charset=windows-1252>", "cp1252"),
        (
            '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-15">',
            "iso-8859-15",
        ),
        ("<meta charset=onzin>", "utf-8"),
        ("<meta charset=base64>", "utf-8"),
        ("<meta charset=utf-8>", "utf-8-sig"),
    ],
)
def test_a_page_is_in_the_encoding_that_it_claims_or_has(head: str, encoding: str) -> None:
    data = f"{head}<h1>Zoë scoort één keer</h1>".encode(encoding)
    assert [record["headline"] for record in pages.from_html(data)] == ["Zoë scoort één keer"]


def test_counts_that_stand_once_are_read_where_none_stands_twice() -> None:
    listing = (
        "Kop een\n\nOnder de kop.\n\n12\nKop twee\n\nNog een regel.\n\n1.204\nKop drie\n3,4k\n"
    )
    assert pages.from_text(listing) == [
        {"headline": "Kop een", "teaser": "Onder de kop."},
        {"headline": "Kop twee", "teaser": "Nog een regel."},
        {"headline": "Kop drie", "teaser": ""},
    ]


@pytest.mark.parametrize("text", ["", "\n", "12\n12\n", "12\n", "Kop\n", "Kop\nKop\n"])
def test_a_text_with_nothing_in_it(text: str) -> None:
    assert len(pages.from_text(text)) == (text == "Kop\nKop\n")
    assert not pages.looks_like_page(text)


@pytest.mark.parametrize(
    ("text", "is_page"),
    [
        ("Titel\ndoor\nTitel\nTekst\n", True),
        ("Titel\n\nDoor Jan de Wit\n\nTitel\n", True),
        ("Titel\nTitel\nTekst\n", False),
        ("Titel\nTekst\nTitel\n", False),
        ("a\n12\n12\nb\n13\n13\n", True),
        ("a\n12\n12\nb\n", False),
        ("Genk wint met 2-1\nAjax koopt spits\n" * 30, False),
    ],
)
def test_a_page_of_text_is_known_by_its_title_or_its_counts(text: str, is_page: bool) -> None:
    assert pages.looks_like_page(text) == is_page


@pytest.mark.parametrize(
    ("feed", "sentence"),
    [
        (b"<html><body>geen feed</body></html>", "a.xml: is not an RSS or Atom feed"),
        (b"geen feed", "a.xml: is not an RSS or Atom feed"),
        (b"/etc/passwd", "a.xml: is not an RSS or Atom feed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><rss version='2.0'></rss>", "a.xml: declares entities"),
        (b"<rss>" + b"<a>" * 200_001, "a.xml: has more than 200,000 tags; split the feed"),
    ],
)
def test_what_is_no_feed_is_told(tmp_path: Path, feed: bytes, sentence: str) -> None:
    with pytest.raises(BadSource, match=sentence):
        list(read(put(tmp_path, "a.xml", feed)))


def test_an_item_whose_text_the_parser_loses_is_a_fault(tmp_path: Path) -> None:
    feed = b"<item<description&</description/</title<description<item></description<"
    found = list(read(put(tmp_path, "a.xml", feed), on_bad_row="keep"))
    assert found
    assert all(row.error for row in found)


def test_a_feed_without_items_has_no_rows(tmp_path: Path) -> None:
    feed = b"<rss version='2.0'><channel><title>leeg</title></channel></rss>"
    assert list(read(put(tmp_path, "a.xml", feed))) == []


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
