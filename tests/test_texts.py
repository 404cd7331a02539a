"""Texts from elsewhere: what is repaired in them, what is reported, and tables as spreadsheet programs write them."""

import html

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_files import write

from ccr.errors import CcrError
from ccr.evaluate.encoder import queries
from ccr.texts.cleaning import Changes, clean, clean_text
from ccr.texts.files import read_lines, read_text
from ccr.texts.tables import read_table


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("dog&#39;s tail &amp; a cat", "dog's tail & a cat"),
        ("&quot;stop&quot; &#x2014; caf&eacute;", '"stop" — café'),
        ("&amp;amp;#39;", "'"),  # encoded repeatedly
        ("a&nbsp;&nbsp;dog&#10;runs", "a dog runs"),
        ("a\u200bdog&#8203;s", "adogs"),
        ("e&#769;te&#x301;", "été"),
        ("AT&T; R&D &notit; &unknown; &;", "AT&T; R&D &notit; &unknown; &;"),
        ("fish &amp chips", "fish &amp chips"),  # no semicolon: a guess
        ("one\u2028two\u2029three\x85four", "one two three four"),
        ("\u200eكلب\u200f \u2067שלום\u2069 \u202bسگ\u202c \u061cكلب", "كلب שלום سگ كلب"),  # writing directions
        ("Donau\u00addampf&shy;schiff", "Donaudampfschiff"),
        ("क्\u200dष می\u200cخواهم", "क्\u200dष می\u200cخواهم"),  # joiners are part of scripts
        ("&#0; &#xD800; &#x110000;", "\ufffd \ufffd \ufffd"),
    ],
)
def test_a_text_is_put_right(text, cleaned):
    assert clean_text(text) == cleaned


def test_entities_are_kept_where_they_are_meant():
    assert clean_text(" the tag &lt;b&gt;\u200b ", entities="keep") == "the tag &lt;b&gt;"


@given(st.text(st.characters(codec="utf-8", exclude_characters="&"), max_size=30))
def test_a_text_that_was_encoded_for_html_is_the_text(text):
    assert clean_text(html.escape(text)) == clean_text(text)


PARTS = st.sampled_from(["&amp;", "&#38;", "amp;", "#39;", "&", ";", "&lt;", "&#x200b;", "\u200b", ";", "&zwj;", "a"])


@given(st.lists(PARTS, max_size=12).map("".join))
def test_what_is_clean_stays_as_it_is(text):
    once = clean_text(text)
    assert clean_text(once) == once


def test_changes_are_counted_and_shown():
    texts = ["a&#39;b", "c", "a long sentence about dogs &amp; cats", "d \ufffd", "<b>e</b>"]
    changes = Changes()
    clean(pa.array(texts), "decode", changes, [f"line {n}" for n in range(5)])
    assert changes.notes("captions") == [
        "put right: HTML entities in 2 captions, as in line 0 'a&#39;b' -> \"a'b\"; "
        "line 2 'out dogs &amp; cats' -> 'out dogs & cats'",
        "left as they are: replacement characters in 1 captions, as in line 3 'd \ufffd'",
        "left as they are: HTML tags in 1 captions, as in line 4 '<b>e</b>'",
    ]


# --- lines -------------------------------------------------------------------------------------------------


def test_a_query_a_line_whatever_stands_in_it(tmp_path, caplog):
    caplog.set_level("INFO")
    file = write(tmp_path / "queries.txt", "one\u2028two\x0cthree\r\ndog&#39;s tail\n")
    assert queries(file) == ["one two three", "dog's tail"]
    assert "queries.txt: put right: HTML entities in 1 lines, as in line 2" in caplog.text
    assert queries(file, "keep")[1] == "dog&#39;s tail"
    with pytest.raises(CcrError, match="queries.txt: line 2 is empty; every line is a text to embed"):
        queries(write(file, "one\n \u200b\n"))
    with pytest.raises(CcrError, match="queries.txt: line 1 is empty"):
        queries(write(file, ""))
    with pytest.raises(CcrError, match=r"queries.txt, line 2 \(byte 2\): not UTF-8"):
        queries(write(file, b"a\n\xe9"))
    with pytest.raises(CcrError, match="nowhere.txt: cannot be read"):
        queries(tmp_path / "nowhere.txt")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_marks_at_the_beginning_are_no_text(tmp_path, encoding):
    assert read_lines(write(tmp_path / "a.txt", "狗\ncafé\n".encode(encoding))) == ["狗", "café"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32", "cp1252"])
def test_other_encodings_are_refused(tmp_path, encoding):
    with pytest.raises(CcrError, match="a.txt, line 1.*: (a NUL character|not UTF)"):
        read_text(write(tmp_path / "a.txt", "café\n".encode(encoding)))


# --- tables ------------------------------------------------------------------------------------------------

NEEDED = ("id", "text")
MARKS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@pytest.mark.parametrize(("name", "own"), [("a.csv", ","), ("a.tsv", "\t")])
@pytest.mark.parametrize("mark", MARKS)
def test_whatever_separates_the_columns(tmp_path, name, own, mark):
    lines = [("id", "text", "n"), ("a", '"one, two; three | four"', "1"), ("b", '"five\nsix"', "")]
    table = read_table(write(tmp_path / name, "\r\n".join(map(mark.join, lines))), NEEDED)
    assert table.header == ["id", "text", "n"]
    assert table.records == [["a", "one, two; three | four", "1"], ["b", "five\nsix", ""]]
    assert table.lines == [2, 3]
    told = f"{name}: columns separated by {MARKS[mark]}, not {MARKS[own]}"
    assert table.notes == ([] if mark == own else [told])


def test_a_table_as_excel_saves_it(tmp_path):
    text = 'sep=;\r\n"id";text;\r\na;"a ""stop"" sign";\r\n;;\r\nb;c;\r\n'
    for encoding in ("utf-8-sig", "utf-16"):
        table = read_table(write(tmp_path / "a.csv", text.encode(encoding)), NEEDED)
        assert table.records == [["a", 'a "stop" sign', ""], ["b", "c", ""]] and table.lines == [3, 5]
        assert table.notes == [
            "a.csv: columns separated by semicolons, not commas",
            "a.csv: 1 lines without a value left out",
        ]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "rows",
    [
        [("a", "train", '"one'), ("b", "train", 'two"'), ("c", "test", "three")],
        [("a", "train", "one"), ("b", "train", '"two'), ("c", "", "3, or 4"), ("",), ("d", "test", 'five, six"')],
        [('"a', "train", "one"), ('b"', "train", "two")],
    ],
)
def test_a_quotation_mark_swallows_no_records(tmp_path, mark, end, rows):
    rows = [[value.replace(",", "" if mark == "," else ",") for value in row] for row in rows]
    file = write(tmp_path / "a.csv", end.join(map(mark.join, [("id", "split", "text"), *rows])) + end)
    column, line = ("id", 2) if rows[0][0] == '"a' else ("text", 2 if rows[0][2] == '"one' else 3)
    with pytest.raises(CcrError, match=f"a.csv, line {line}: column '{column}' holds whole lines .* not closed"):
        read_table(file, ("id", "text"))


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize(
    "text", ["one, two,\nthree, four, five, six", "a dog; wet\n\na cat; dry; asleep", "1 | 2\n3 | 4 | 5"]
)
def test_a_text_of_several_lines(tmp_path, mark, text):
    file = write(tmp_path / "a.csv", mark.join(("id", "split", "text")) + "\n" + mark.join(("a", "train", f'"{text}"')))
    assert read_table(file, NEEDED).records == [["a", "train", text]]


CHARACTERS = st.characters(codec="utf-8", exclude_characters="\0\r\n\ufeff")
cells = st.text(CHARACTERS, min_size=1, max_size=8).filter(str.strip)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from(",;\t|"))
def test_what_is_written_is_read(tmp_path_factory, rows, mark):
    lines = [("id", "text"), *rows]
    text = "".join(mark.join('"' + value.replace('"', '""') + '"' for value in line) + "\n" for line in lines)
    file = write(tmp_path_factory.getbasetemp() / "any.csv", text)
    assert read_table(file, NEEDED).records == [list(row) for row in rows]
