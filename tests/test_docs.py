"""What the documents tell is so: commands that exist, help for all of them, examples that hold."""

import doctest
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from conftest import save_version
from kopwijzer import cli, learning, training
from kopwijzer.headlines import Headline
from kopwijzer.settings import Settings, shipped

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TOLD = sorted([README, *ROOT.glob("docs/*.md")])

_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_INDENTED = re.compile(r"^    (kopwijzer .*)$", re.MULTILINE)
_INLINE = re.compile(r"`(kopwijzer [^`]*)`")
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command with its words, the groups left out."""
    found = getattr(group, "commands", None)
    if found is None:
        yield path, group
    for name, command in (found or {}).items():
        yield from _commands(command, (*path, name))


APP = typer.main.get_command(cli.app)
COMMANDS = list(_commands(APP))
NAMES = [" ".join(path) for path, _ in COMMANDS]


def _ours(line: str) -> Iterator[list[str]]:
    """The words after `kopwijzer` of every part of a pipeline that is ours."""
    words = shlex.split(line, comments=True)
    part: list[str] = []
    for word in [*words, "|"]:
        if word == "|":
            if part[:1] == ["kopwijzer"]:
                yield part[1:]
            part = []
        elif word == ">" or (part and part[-1] == ">"):
            part = [*part, ">"] if word == ">" else part[:-1]
        else:
            part.append(word)


def _parse(words: list[str]) -> tuple[str, ...]:
    """The words of the command that takes these; raises what a wrong one raises."""
    command: Any = APP
    path: list[str] = []
    while hasattr(command, "commands"):
        assert words, f"{path} is no whole command"
        name, *words = words
        assert name in command.commands, f"there is no command {[*path, name]}"
        path.append(name)
        command = command.commands[name]
    command.make_context(" ".join(path), list(words))
    return tuple(path)


def _told(path: Path) -> list[str]:
    """The command lines of a document: after `$` in console blocks, and in indented ones."""
    text = path.read_text(encoding="utf-8")
    lines = [
        line.removeprefix("$ ")
        for block in _CONSOLE.findall(text)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith("$ ")
    ]
    return lines + _INDENTED.findall(text)


LINES = [(path.name, line) for path in TOLD for line in _told(path)]


# Commands --------------------------------------------------------------------------------------


def test_the_readme_shows_commands() -> None:
    shown = {_parse(words) for line in _told(README) for words in _ours(line)}
    assert shown >= {("predict",), ("train",), ("check",), ("evaluate",), ("models", "promote")}


@pytest.mark.parametrize(("document", "line"), LINES, ids=[f"{d}: {line}" for d, line in LINES])
def test_a_command_that_is_shown_can_be_given(
    document: str,  # noqa: ARG001  # for the name of the test
    line: str,
) -> None:
    for words in _ours(line):
        _parse(words)


def test_a_command_that_cannot_be_given_would_be_found() -> None:
    for line in ("kopwijzer predictt x", "cat x | kopwijzer predict - --formt table > y"):
        with pytest.raises(Exception, match=r"predictt|--formt"):
            test_a_command_that_is_shown_can_be_given("", line)


def test_commands_and_options_in_running_text_exist() -> None:
    known = {name for _, command in COMMANDS for one in command.params for name in one.opts}
    first = {path[0] for path, _ in COMMANDS}
    for path in TOLD:
        for text in _INLINE.findall(path.read_text(encoding="utf-8")):
            word = text.split()[1]
            assert word in first or word == "COMMAND" or word.startswith("-"), text
            assert set(_OPTION.findall(text)) <= known | {"--help", "--version"}, text


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_a_command_and_its_options_have_help(path: tuple[str, ...], command: Any) -> None:
    assert (command.help or "").strip().endswith("."), path
    for parameter in command.params:
        assert (getattr(parameter, "help", None) or "").strip(), f"{path}: {parameter.name}"


def test_every_command_is_told_of_somewhere() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in TOLD)
    told = {name for name in NAMES if re.search(rf"kopwijzer {name}\b", text)}
    assert told == set(NAMES)


def test_the_list_of_commands_says_what_their_help_says() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `kopwijzer ([^`]*)` \| (.*) \|$", text, re.MULTILINE)
    helps = [" ".join(command.help.split()) for _, command in COMMANDS]
    assert listed == list(zip(NAMES, helps, strict=True))


# Links, exit codes and settings ----------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=[path.name for path in DOCUMENTS])
def test_links_to_files_lead_somewhere(path: Path) -> None:
    links = [link for link in _LINK.findall(path.read_text(encoding="utf-8")) if ":" not in link]
    missing = [link for link in links if not (path.parent / link).exists()]
    if missing == ["docs/experiments.md"]:
        pytest.xfail("docs/experiments.md is not there before 'make experiments' was run")
    assert not missing


def test_the_exit_codes_are_those_of_the_help() -> None:
    text = " ".join(README.read_text(encoding="utf-8").split())
    for code in (
        "0 done",
        "1 a source",
        "2 wrong usage",
        "3 rows",
        "4 a version",
        "5 not promoted",
    ):
        assert f" {code}" in text
        assert code in " ".join(cli.EXIT_CODES.split())


def test_settings_that_are_named_can_be_set() -> None:
    sections = "|".join(Settings.model_fields)
    for path in TOLD:
        text = path.read_text(encoding="utf-8")
        for change in re.findall(rf"--set ((?:{sections})\.[\w.]+=[\w.]+)", text):
            Settings.read(changes=[change])


# The example in Python -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with football-nl@champion, learned from every eighth row of the corpus."""
    folder = tmp_path_factory.mktemp("models")
    settings = Settings.read(changes=["learning.epochs=8"])
    rows = [
        Headline(row["headline"], row["teaser"], row["label"])
        for path in sorted(shipped("football-nl").glob("*.jsonl"))
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ][::8]
    truth = [str(row.label) for row in rows]
    pipeline = learning.fit_pipeline(rows, truth, **training.learning_arguments(settings))
    scorer = learning.to_scorer(learning.settle(pipeline), settings.abstains(labels=truth))
    save_version(folder, scorer, pipeline, "football-nl")
    return folder


def test_the_examples_in_python_give_what_they_show(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOPWIJZER_MODELS", str(small))
    text = README.read_text(encoding="utf-8").replace("```", "\n")
    example = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(README), 0)
    assert len(example.examples) >= 5
    found = doctest.DocTestRunner().run(example)
    assert found.failed == 0, capsys.readouterr().out
