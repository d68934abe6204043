"""The command line: options, help, printing, exit codes. A command is a shell around a function.

Heavy rooms are imported inside the commands, so that `--help` and `predict` start at once.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from kopwijzer import __version__
from kopwijzer.errors import BadSettings, BadSource, KopwijzerError

if TYPE_CHECKING:
    from kopwijzer.engines import Engine
    from kopwijzer.headlines import Columns, Headline
    from kopwijzer.settings import Settings

__all__ = ["app", "main"]

EXIT_CODES = """Exit codes: 0 done; 1 a source or folder could not be used; 2 wrong usage or
settings; 3 rows could not be used (predict: kept as error records); 4 a version is absent, damaged
or refused; 5 not promoted; 130, 143 interrupted, terminated."""

app = typer.Typer(
    name="kopwijzer",
    help="Learns what kind of news a headline is, and says when it does not know.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
models_app = typer.Typer(
    help="List, compare, check and point to saved versions.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
config_app = typer.Typer(help="Settings.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models_app, name="models")
app.add_typer(config_app, name="config")


def main() -> NoReturn:
    """Run the command line; ends the process with a documented exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _not_lost
    if sys.stdout is None:
        # Whatever is opened next would take its place, and get what is printed.
        sys.exit(_say("stdout is closed; there is nowhere to write to", 1))
    if sys.argv[1:] == ["--version"]:
        # By far the commonest call of scripts: not worth what typer loads before any command.
        sys.stdout.write(f"kopwijzer {__version__}\n")
        sys.exit(0)
    try:
        code = app(standalone_mode=False) or 0
        if code == 130:  # so typer tells of Ctrl-C
            raise KeyboardInterrupt
    except KopwijzerError as error:
        code = _fail(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _say("interrupted; nothing half-written was kept", 130)
    except _Terminated:
        code = _say("terminated; nothing half-written was kept", 143)
    except typer.Exit as stop:
        code = stop.exit_code
    except (BrokenPipeError, SystemExit):  # typer makes the second of the first
        _reader_is_gone()
    except MemoryError:
        code = _say("out of memory; read fewer rows at once, or use a larger machine", 1)
    except OSError as error:
        if "KOPWIJZER_TRACEBACK" in os.environ:
            raise
        code = _say(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except Exception as error:
        usage = getattr(error, "exit_code", None)
        if usage is None:
            raise
        show: Callable[..., None] = error.show  # type: ignore[attr-defined]  # click's errors
        show(file=sys.stderr)
        code = usage
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _reader_is_gone()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = code or _say(f"output: {error.strerror or error}", 1)
    sys.exit(int(code))


def _reader_is_gone() -> NoReturn:
    """End quietly where nobody reads on (`| head`), and by the signal that ends `cat` there."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    sys.exit(141)


class _Terminated(BaseException):
    """SIGTERM, as an exception so that every `finally` runs."""


def _terminated(_number: int, _frame: Any) -> NoReturn:
    raise _Terminated


def _not_lost(dropped: "sys.UnraisableHookArgs") -> None:
    """A signal that came while Python was tidying up, where nothing can be raised, comes again."""
    numbers = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}
    if dropped.exc_type not in numbers:
        sys.__unraisablehook__(dropped)
        return
    again = threading.Timer(0.02, os.kill, (os.getpid(), numbers[dropped.exc_type]))
    again.daemon = True
    again.start()


def _fail(error: KopwijzerError) -> int:
    if "KOPWIJZER_TRACEBACK" in os.environ:
        raise error
    return _say(str(error), error.exit_code)


def _say(sentence: str, code: int = 0) -> int:
    typer.echo(f"kopwijzer: {sentence}", err=True)
    return code


# Options that several commands share -----------------------------------------------------------

ModelsOption = Annotated[
    str | None,
    typer.Option("--models", help="Folder of models [$KOPWIJZER_MODELS, else ./models]."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", help="Settings file, or a shipped recipe by its name."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change one setting: section.key=value. May be repeated."),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--input-format",
        help="jsonl, json, csv, tsv, parquet, rss, html, page, lines, dataset [by the name].",
    ),
]
HeadlineOption = Annotated[
    str | None, typer.Option("--headline", help="Column of the headline [headline].")
]
TeaserOption = Annotated[str | None, typer.Option("--teaser-column", help="Column of the teaser.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Column of the label [label].")]
BackendOption = Annotated[
    str, typer.Option("--backend", help="Where to work: loky, threading, dask or ray.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="How many calls run at once [all processors].")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", help="Address of a Dask scheduler or Ray cluster that runs."),
]
ModelOption = Annotated[
    str, typer.Option("--model", help="name, name@alias, name@latest or name@v3.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"kopwijzer {__version__}")
        raise typer.Exit


# Commands --------------------------------------------------------------------------------------


@app.command()
def train(
    source: Annotated[
        str | None, typer.Argument(help="Labelled rows [the shipped corpus football-nl].")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "football-nl",
    config: ConfigOption = None,
    set_: SetOption = None,
    models: ModelsOption = None,
    precision: Annotated[
        float | None,
        typer.Option("--precision", help="Promise (0-1) for every answered label."),
    ] = None,
    headline: HeadlineOption = None,
    teaser: TeaserOption = None,
    label: LabelOption = None,
    backend: BackendOption = "loky",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
) -> None:
    """Learn from labelled rows, measure honestly, and save a version."""
    from kopwijzer import report, training, versions
    from kopwijzer.settings import recipe_of

    settings = _settings(config or str(recipe_of(source)), set_, headline, teaser, label, precision)
    engine = _engine(backend, workers, scheduler)
    versions.aliases(models, name)  # refuses an impossible name before the work, not after it
    with _progress(quiet) as progress:
        saved = training.train(
            source, settings, models, name=name, engine=engine, progress=progress
        )
    for line in report.summary(saved):
        typer.echo(line, err=True)
    typer.echo(saved.ref)


@app.command()
def predict(
    items: Annotated[
        list[str] | None, typer.Argument(help="Headlines, or sources of rows; '-' is stdin.")
    ] = None,
    teaser: Annotated[
        str | None, typer.Option("--teaser", help="Teaser of a headline; for a source, its column.")
    ] = None,
    model: ModelOption = "football-nl@champion",
    models: ModelsOption = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="table, jsonl or csv [table on a terminal, else jsonl]."),
    ] = None,
    top: Annotated[int | None, typer.Option("--top", min=1, help="Show the K best labels.")] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the pieces that decided.")
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option("--min-confidence", min=0, max=1, help="Abstain below this (0-1)."),
    ] = None,
    headline: HeadlineOption = None,
    input_format: FormatOption = None,
    on_bad_row: Annotated[
        str, typer.Option("--on-bad-row", help="keep (an error record), skip or fail.")
    ] = "keep",
    batch: Annotated[
        int, typer.Option("--batch", min=1, help="Rows read before they are answered.")
    ] = 256,
    out: Annotated[
        str | None, typer.Option("--out", help="Folder or URL for scored Parquet partitions.")
    ] = None,
    backend: BackendOption = "loky",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
) -> None:
    """Say what headlines are: one record out for each record in, in order."""
    from kopwijzer import records
    from kopwijzer.headlines import Columns, Headline
    from kopwijzer.scorer import Abstention
    from kopwijzer.serving import load

    form = _one_of("--format", format_, ("table", "jsonl", "csv")) or (
        "table" if sys.stdout.isatty() else "jsonl"
    )
    policy = _one_of("--on-bad-row", on_bad_row, ("keep", "skip", "fail"))
    scorer = load(model, models)
    if min_confidence is not None:
        rule = scorer.abstention
        thresholds = {str(one): min_confidence for one in scorer.classes_ if one != rule.label}
        scorer = scorer.with_abstention(Abstention(rule.label, thresholds, rule.min_known_share))
    texts, sources = _texts_or_sources(items or [], input_format is not None or out is not None)
    columns = Columns(headline=headline or "headline", teaser=(sources and teaser) or "teaser")
    if out is not None:
        from kopwijzer import bulk

        with _progress(quiet) as progress:
            done = bulk.predict(
                sources,
                out,
                scorer,
                columns=columns,
                engine=_engine(backend, workers, scheduler),
                progress=progress,
            )
        typer.echo(done.sentence(), err=True)
        raise typer.Exit(3 if done.n_errors else 0)
    faults = _Faults(quiet, "left out" if policy == "skip" else "kept as error records")
    rows: Iterable[Headline]
    if sources:
        rows = _read_all(sources, columns, input_format, policy, faults)
    else:
        rows = [Headline(text, teaser or "") for text in texts]
    answers = records.predict(scorer, rows, batch)
    write = sys.stdout.buffer.write
    for piece in records.write(answers, form, scorer, top=top, explain=explain):  # type: ignore[arg-type]  # _one_of checked it
        write(_bytes(piece))
        if batch == 1:
            sys.stdout.flush()
    if faults.n:
        faults.count()
        raise typer.Exit(3)


@app.command()
def evaluate(
    source: Annotated[str, typer.Argument(help="Labelled rows.")],
    model: ModelOption = "football-nl@champion",
    models: ModelsOption = None,
    html: Annotated[str | None, typer.Option("--html", help="Write the report page here.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print every figure as JSON.")] = False,
    headline: HeadlineOption = None,
    teaser: TeaserOption = None,
    label: LabelOption = None,
    input_format: FormatOption = None,
) -> None:
    """Measure a version on labelled rows that it has not seen."""
    from kopwijzer import report, training, versions

    version = versions.find(model, models)
    rows = _labelled_rows(source, headline, teaser, label, input_format)
    outcome, found = training.evaluate(version.scorer(), rows)
    if html is not None:
        _write_page(html, report.evaluation_page(version, source, outcome, found))
    if json_:
        import json

        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False, indent=1))
    else:
        for line in report.table(found):
            typer.echo(line)


@app.command()
def check(
    source: Annotated[str, typer.Argument(help="Rows to check.")],
    against: Annotated[
        str | None, typer.Option("--against", help="Training rows that must not leak into it.")
    ] = None,
    csv_: Annotated[str | None, typer.Option("--csv", help="Write every finding here.")] = None,
    headline: HeadlineOption = None,
    teaser: TeaserOption = None,
    label: LabelOption = None,
    input_format: FormatOption = None,
    backend: BackendOption = "loky",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
) -> None:
    """Look for duplicates, likely label errors, leakage and broken text in rows."""
    from kopwijzer import training
    from kopwijzer.check import table, to_csv

    rows = _labelled_rows(source, headline, teaser, label, input_format, labelled=False)
    other = (
        _labelled_rows(against, headline, teaser, label, input_format, labelled=False)
        if against is not None
        else None
    )
    with _progress(quiet) as progress:
        findings = training.check_rows(
            rows, other, engine=_engine(backend, workers, scheduler), progress=progress
        )
    if csv_ is not None:
        _write_page(csv_, to_csv(findings))
    typer.echo(table(findings, len(rows)))


@app.command()
def search(
    source: Annotated[
        str | None, typer.Argument(help="Labelled rows [the shipped corpus football-nl].")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="Plan of the search [the shipped search.toml].")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Recipe to start from: a file or a shipped name."),
    ] = None,
    set_: SetOption = None,
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "football-nl",
    models: ModelsOption = None,
    state: Annotated[
        str | None,
        typer.Option("--state", help="File of finished trials [MODELS/NAME/search.jsonl]."),
    ] = None,
    backend: BackendOption = "loky",
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    quiet: QuietOption = False,
) -> None:
    """Find the best settings in a space, train with them, and save a version."""
    from kopwijzer import report, training, versions
    from kopwijzer import search as searching
    from kopwijzer.settings import recipe_of, shipped

    plan = searching.Plan.read(config or shipped("configs") / "search.toml")
    engine = _engine(backend, workers, scheduler)
    versions.aliases(models, name)  # refuses an impossible name before the work, not after it
    place = state or versions.models_folder(models) / name / "search.jsonl"
    with _progress(quiet) as progress:
        found = searching.search(
            source,
            plan,
            _settings(recipe or str(recipe_of(source)), set_),
            state=place,
            engine=engine,
            progress=progress,
        )
        typer.echo(found.table())
        saved = training.train(
            source,
            found.settings,
            models,
            name=name,
            engine=engine,
            progress=progress,
            history=found.history(),
        )
    for line in report.summary(saved):
        typer.echo(line, err=True)
    typer.echo(saved.ref)


@app.command()
def doctor(models: ModelsOption = None) -> None:
    """Tell which paths and extras run on this machine; exit code 1 where something is broken."""
    from kopwijzer import versions
    from kopwijzer.doctor import examine

    broken = False
    for found in examine(versions.models_folder(models)):
        typer.echo(f"{found.state:7} {found.what:16} {found.said}")
        broken |= found.state == "fault"
    if broken:
        raise typer.Exit(1)


@config_app.command("show")
def config_show(config: ConfigOption = None, set_: SetOption = None) -> None:
    """Print the filled-in settings as TOML."""
    typer.echo(_settings(config, set_).to_toml(), nl=False)


# Models ----------------------------------------------------------------------------------------

RefArgument = Annotated[str, typer.Argument(help="name, name@alias, name@latest or name@v3.")]


@models_app.command("list")
def models_list(
    name: Annotated[str | None, typer.Argument(help="Only this model.")] = None,
    models: ModelsOption = None,
) -> None:
    """List every version with its aliases and its macro-F1."""
    from kopwijzer import versions

    for version in versions.list_versions(models, name):
        tags = versions.aliases(models, version.name)
        own = " ".join(alias for alias, number in tags.items() if number == f"v{version.number}")
        line = f"{version.ref:24} {version.manifest['created']}  {_headline_figure(version)}  {own}"
        typer.echo(line.rstrip())


@models_app.command("show")
def models_show(ref: RefArgument, models: ModelsOption = None) -> None:
    """Print a version's manifest as JSON."""
    import json

    from kopwijzer import versions

    typer.echo(json.dumps(versions.find(ref, models).manifest, ensure_ascii=False, indent=2))


@models_app.command("alias")
def models_alias(
    ref: RefArgument,
    alias: Annotated[str, typer.Argument(help="The alias to point to it.")],
    models: ModelsOption = None,
    note: Annotated[str, typer.Option("--note", help="Why; kept in the log.")] = "",
) -> None:
    """Point an alias to a version."""
    from kopwijzer import versions

    version = versions.set_alias(ref, alias, models, note=note)
    typer.echo(f"{version.name}@{alias} is now v{version.number}", err=True)


@models_app.command("rollback")
def models_rollback(
    name: Annotated[str, typer.Argument(help="Name of the model.")] = "football-nl",
    alias: Annotated[str, typer.Option("--alias", help="Which alias.")] = "champion",
    models: ModelsOption = None,
) -> None:
    """Point an alias back to the version before its last move."""
    from kopwijzer import versions

    version = versions.rollback(name, models, alias)
    typer.echo(f"{name}@{alias} is v{version.number} again", err=True)


@models_app.command("verify")
def models_verify(
    ref: RefArgument,
    models: ModelsOption = None,
    key: Annotated[
        str | None, typer.Option("--key", help="Public Ed25519 key (PEM) it must be signed with.")
    ] = None,
) -> None:
    """Check every digest of a version and replay its probes."""
    from kopwijzer import versions

    version = versions.find(ref, models)
    if key is not None:
        from kopwijzer import signing

        typer.echo(signing.verify(version, key))
    for line in versions.verify(version):
        typer.echo(line)


@models_app.command("log")
def models_log(
    name: Annotated[str, typer.Argument(help="Name of the model.")] = "football-nl",
    models: ModelsOption = None,
) -> None:
    """Print what happened to a model, oldest first, as JSON lines."""
    import json

    from kopwijzer import versions

    for entry in versions.history(models, name):
        typer.echo(json.dumps(entry, ensure_ascii=False))


@models_app.command("compare")
def models_compare(
    a: RefArgument,
    b: RefArgument,
    on: Annotated[
        str | None,
        typer.Option("--on", help="Labelled rows [training rows of both, by cross-validation]."),
    ] = None,
    models: ModelsOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare B with A on the same rows: figures, flips, size and speed."""
    import json

    from kopwijzer import promotion, versions

    found = promotion.compare(
        versions.find(a, models), versions.find(b, models), _labelled_or_none(on)
    )
    typer.echo(
        json.dumps(found.to_dict(), ensure_ascii=False, indent=1) if json_ else found.table()
    )


@models_app.command("promote")
def models_promote(
    ref: RefArgument,
    on: Annotated[
        str | None,
        typer.Option("--on", help="Labelled rows [training rows of both, by cross-validation]."),
    ] = None,
    models: ModelsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Promote anyway; logged as forced.")
    ] = False,
    note: Annotated[str, typer.Option("--note", help="Why; kept in the log.")] = "",
) -> None:
    """Make a version champion if no label is worse beyond the interval."""
    from kopwijzer import promotion

    sentence = promotion.promote(ref, models, on=_labelled_or_none(on), force=force, note=note)
    typer.echo(sentence, err=True)


@models_app.command("sign")
def models_sign(
    ref: RefArgument,
    key: Annotated[str, typer.Option("--key", help="Private Ed25519 key (PEM).")],
    models: ModelsOption = None,
) -> None:
    """Sign a version's manifest, and through its digests every file."""
    from kopwijzer import signing, versions

    typer.echo(str(signing.sign(versions.find(ref, models), key)))


# Help for the commands -------------------------------------------------------------------------


def _settings(
    config: str | None,
    changes: list[str] | None,
    headline: str | None = None,
    teaser: str | None = None,
    label: str | None = None,
    precision: float | None = None,
) -> "Settings":
    """The settings of a file with the changes that options stand for."""
    from kopwijzer.settings import Settings

    named = {"data.headline": headline, "data.teaser": teaser, "data.label": label}
    more = [f"{key}={value}" for key, value in named.items() if value is not None]
    if precision is not None:
        more.append(f"abstention.precision={precision}")
    return Settings.read(config, [*(changes or []), *more])


def _engine(backend: str, workers: int | None, scheduler: str | None) -> "Engine":
    from kopwijzer.engines import Engine

    chosen = _one_of("--backend", backend, ("loky", "threading", "dask", "ray"))
    return Engine(chosen, workers, scheduler)  # type: ignore[arg-type]  # _one_of checked it


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    if value is not None and value not in known:
        raise BadSettings(f"{option} {value!r}: use one of {', '.join(known)}")
    return value


def _texts_or_sources(items: list[str], only_sources: bool) -> tuple[list[str], list[str]]:
    """Headlines or sources: arguments are sources when every one of them names something."""
    if not items:
        if sys.stdin is None or sys.stdin.isatty():
            raise BadSettings("predict what? Give a headline, a file, or '-' for stdin")
        return [], ["-"]
    if only_sources:
        return [], items
    sources = [item for item in items if _is_source(item)]
    if sources and len(sources) < len(items):
        text = next(item for item in items if item not in sources)
        raise BadSettings(
            f"{sources[0]!r} is a source and {text!r} is not; give either headlines or sources"
        )
    return ([], sources) if sources else (items, [])


def _is_source(item: str) -> bool:
    if item == "-" or item.startswith("hf:") or "://" in item.split(" ", 1)[0]:
        return True
    if not item or "\0" in item or len(item) > 4096:
        return False
    try:
        if Path(item).exists():
            return True
    except OSError:
        return False
    looks = Path(item.removesuffix(".gz")).suffix.lower()
    return (" " not in item or "/" in item or "*" in item) and looks in (
        *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"),
        *(".xml", ".rss", ".atom", ".html", ".htm", ".txt"),
    )


def _read_all(
    sources: list[str],
    columns: "Columns",
    input_format: str | None,
    policy: Any,
    faults: "_Faults",
) -> Iterator["Headline"]:
    from kopwijzer.headlines import read

    for source in sources:
        yield from read(
            source,
            columns=columns,
            input_format=input_format,
            on_bad_row=policy,
            on_fault=faults.told,
        )


def _labelled_rows(
    source: str,
    headline: str | None = None,
    teaser: str | None = None,
    label: str | None = None,
    input_format: str | None = None,
    labelled: bool = True,
) -> list["Headline"]:
    from kopwijzer.headlines import read

    columns = _settings(None, None, headline, teaser, label).data.columns()
    return list(read(source, columns=columns, input_format=input_format, labelled=labelled))


def _labelled_or_none(source: str | None) -> "list[Headline] | None":
    return None if source is None else _labelled_rows(source)


def _write_page(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8", errors="surrogatepass")
    except OSError as error:
        raise BadSource(f"{path}: cannot be written ({error.strerror})") from error


class _Faults:
    """Counts rows that could not be used, and tells the first ten on stderr."""

    def __init__(self, quiet: bool, fate: str) -> None:
        self.n = 0
        self._quiet, self._fate = quiet, fate

    def told(self, fault: str) -> None:
        self.n += 1
        if self.n <= 10 and not self._quiet:
            _say(fault)

    def count(self) -> None:
        """Tell how many there were in the end."""
        if not self._quiet:
            _say(f"{self.n:,} {'row was' if self.n == 1 else 'rows were'} {self._fate}")


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair has no UTF-8; its escape says the same to a JSON reader.
        return text.encode("utf-8", "backslashreplace")


def _headline_figure(version: Any) -> str:
    figures = version.manifest.get("figures") or {}
    honest = figures.get("macro_f1")
    return f"macro-F1 {honest:.3f}" if isinstance(honest, float) else "not measured"


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per step on stderr when it is a terminal; else nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, of: None
        return
    from tqdm import tqdm

    bars: dict[str, Any] = {}

    def say(what: str, done: int, of: int) -> None:
        bar = bars.get(what)
        if bar is None:
            bar = bars[what] = tqdm(total=of, desc=what, file=sys.stderr, leave=False)
        bar.update(done - bar.n)
        if done >= of:
            bar.close()

    try:
        yield say
    finally:
        for bar in bars.values():
            bar.close()
