"""The command line with nonsensical arguments: one message each, no traceback."""

import shutil
from collections.abc import Iterator

import pytest
import typer

from ccr.artifacts.refusals import for_people
from ccr.cli import app

pytestmark = pytest.mark.usefixtures("in_a_folder_of_its_own")
LONG = "a" * 300
PATHS = ["nowhere", "folder", "folder/x", "text", "text/x", "empty", "noise", "noise.parquet", "", "../x", "\0", LONG]


@pytest.fixture(autouse=True)
def files(tmp_path, repository) -> None:
    shutil.copy(repository / "params.yaml", tmp_path)
    (tmp_path / "folder").mkdir()
    for name, data in {"text": b"hello", "empty": b"", "noise": bytes(range(256)), "noise.parquet": b"PAR1"}.items():
        (tmp_path / name).write_bytes(data)


def ended(*words: str) -> int | str | None:
    """Run `ccr` with these arguments; returns its exit status, or the message that it prints."""
    with pytest.raises(SystemExit) as end, for_people():
        app(words)
    return end.value.code


def commands(command, *path: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The words of each command, and how many arguments it requires."""
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from commands(sub, *path, name)
    else:
        yield path, sum(p.required for p in command.params if p.param_type_name == "argument")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "onnx", LONG, "out"), "File name too long. Give another path."),
        (("captions", "check", LONG), "File name too long. Give another path."),
        (("captions", "check", "text/x"), "ccr: text/x: no such folder."),
        (("plan", "vatex_table", "--params", "folder"), "ccr: folder: cannot be read (Is a directory)."),
    ],
)
def test_a_path_that_is_none_is_one_message(words, message):
    assert ended(*words).endswith(message)


def test_wrong_usage_is_exit_status_2(capsys):
    for words in (("tm", "export", "folder"), ("memo", "gc", "--down-to", "-1"), ("memo", "gc", "--older-than", "-1")):
        assert ended(*words) == 2
    assert "'folder' is a directory" in capsys.readouterr().err


def test_there_is_nothing_to_collect_before_there_is_a_memo(capsys):
    assert not ended("memo", "gc", "--down-to", "1")
    assert capsys.readouterr().out == "0 entries, 0.0 MB freed\n"


@pytest.mark.slow
@pytest.mark.parametrize("argument", PATHS)
def test_whatever_the_arguments_are_there_is_no_traceback(argument):
    for path, count in commands(typer.main.get_command(app)):
        if path not in [("search",), ("doctor",)]:
            code = ended(*path, *[argument] * count)
            assert isinstance(code, int | None) or code.startswith("ccr: ")
