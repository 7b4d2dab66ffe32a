"""The commands and their options; what they do is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mediagen import __version__

app = typer.Typer(
    name="mediagen",
    help="Self-hosted media server: any URL into your own store, live, in flat memory, surviving kill -9.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tasks = typer.Typer(help="Look at tasks and steer them.", no_args_is_help=True)
app.add_typer(tasks, name="tasks")
keys = typer.Typer(
    help="Make and end API keys, with a running server or without one. A running one needs no restart.",
    no_args_is_help=True,
)
app.add_typer(keys, name="keys")
webhooks = typer.Typer(help="The secret that webhooks are signed with.", no_args_is_help=True)
app.add_typer(webhooks, name="webhooks")
clock = typer.Typer(help="Whether the clock of this machine is believed.", no_args_is_help=True)
app.add_typer(clock, name="clock")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", envvar="MEDIAGEN_CONFIG", help="TOML file; without it mediagen.toml, if there."),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="MEDIAGEN_SERVER", help="Address of the server; without it that of the configuration."
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory of the server; without it that of the configuration.")
]
InitOption = Annotated[
    bool, typer.Option("--init", help="Make a new database where there is none, before the first start of a server.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mediagen {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of all commands."""


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Directory of database, media and temporary files.")] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl-C."""
    from mediagen.cli.serve import serve as run

    raise typer.Exit(run(config, host=host, port=port, data_dir=data_dir))


@app.command()
def check(config: ConfigOption = None) -> None:
    """Check the configuration and print what is in effect, secrets left out.

    Exit status: 0 good, 1 usable with warnings, 2 not usable.
    """
    from mediagen.cli.check import check as run

    raise typer.Exit(run(config))


@app.command()
def health(
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            "--server",
            envvar="MEDIAGEN_SERVER",
            help="Address of the server; without it that of the configuration.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Ask a running server whether it takes work: for the health check of a container.

    Exit status: 0 it does, 1 it does not, or there is none.
    """
    from mediagen.cli.health import health as run

    raise typer.Exit(run(url, config))


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Look at all that a server needs: configuration, disk, SQLite, store, clock, limits; and say what to do.

    Writes, reads and deletes one small object in the store. Exit status: 0 good or warnings, 1 something fails.
    """
    from mediagen.cli.doctor import doctor as run

    raise typer.Exit(run(config, as_json=as_json))


@app.command()
def ingest(
    url: Annotated[str, typer.Argument(help="What to fetch (http or https).")],
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show progress until the task has ended.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
    field: Annotated[
        str | None, typer.Option(help="JSON pointer of base64 text in the URL's JSON answer; its content is kept.")
    ] = None,
    filename: Annotated[str | None, typer.Option(help="Name to keep it by.")] = None,
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="0-100, higher first.")] = None,
) -> None:
    """Bring a file from a URL into the store.

    Exit status: 0 done (without --wait: accepted), 1 the task failed, 2 a bad request or no server, 3 cancelled,
    4 timed out.
    """
    from mediagen.cli.tasks import ingest as run

    request = {"url": url, "field": field, "filename": filename, "priority": priority}
    raise typer.Exit(run(server, request, wait=wait, as_json=as_json))


@app.command()
def compose(
    script: Annotated[Path, typer.Argument(help="The script: .md, .toml or .json.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to save the film; implies --wait.")] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show progress until the task has ended.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print the timeline; render nothing.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Make a film from a script.

    In Markdown, a heading is a scene's title and each paragraph a scene that is spoken. Exit status as of ingest.
    """
    from mediagen.cli.compose import compose as run

    raise typer.Exit(run(server, script, out=out, wait=wait or out is not None, plan=plan, as_json=as_json))


@tasks.command("ls")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Only those of this status.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only those of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, the newest first.")] = 20,
    as_json: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """List tasks."""
    from mediagen.cli.tasks import list_tasks as run

    raise typer.Exit(run(server, status=status, kind=kind, limit=limit, as_json=as_json))


@tasks.command("watch")
def watch(
    task_id: Annotated[str, typer.Argument(help="Id of the task.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Show the progress of a task until it has ended. Exit status as of ingest."""
    from mediagen.cli.tasks import watch as run

    raise typer.Exit(run(server, task_id, as_json=as_json))


@tasks.command("cancel")
def cancel(
    task_ids: Annotated[list[str], typer.Argument(help="Ids of tasks.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Cancel tasks. Exit status 1 when one of them could not be."""
    from mediagen.cli.tasks import bulk

    raise typer.Exit(bulk(server, "cancel", task_ids, as_json=as_json))


@tasks.command("retry")
def retry(
    task_ids: Annotated[list[str], typer.Argument(help="Ids of tasks.")],
    as_json: JsonOption = False,
    server: ServerOption = None,
) -> None:
    """Try ended tasks again. Exit status 1 when one of them could not be."""
    from mediagen.cli.tasks import bulk

    raise typer.Exit(bulk(server, "retry", task_ids, as_json=as_json))


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What to call it; in use once.")],
    scopes: Annotated[
        str | None, typer.Option(help="What it allows: read, write, metrics, admin; several with commas. [read,write]")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Keys of one owner share tasks and files. Without it: the name.")
    ] = None,
    expires_days: Annotated[float | None, typer.Option(min=0.001, help="After so many days it ends.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    init: InitOption = False,
) -> None:
    """Make a key and print it, this once: only its digest is kept."""
    from mediagen.cli.keys import create as run
    from mediagen.cli.operating import Place

    raise typer.Exit(
        run(Place(config, data_dir, init), name=name, owner=owner, scopes=scopes, days=expires_days, as_json=as_json)
    )


@keys.command("list")
def list_keys(as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataOption = None) -> None:
    """List keys: id, state, name, owner, scopes, last use."""
    from mediagen.cli.keys import list_keys as run
    from mediagen.cli.operating import Place

    raise typer.Exit(run(Place(config, data_dir), as_json=as_json))


@keys.command("rotate")
def rotate_key(
    key: Annotated[str, typer.Argument(help="Id or name.")],
    overlap_hours: Annotated[float, typer.Option(min=0, help="How long the old key still works.")] = 24,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataOption = None,
) -> None:
    """Put a new key in the place of one and print it, this once."""
    from mediagen.cli.keys import rotate as run
    from mediagen.cli.operating import Place

    raise typer.Exit(run(Place(config, data_dir), key, overlap_hours=overlap_hours, as_json=as_json))


@keys.command("revoke")
def revoke_key(
    key: Annotated[str, typer.Argument(help="Id, or a name: then all keys of that name.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataOption = None,
) -> None:
    """End a key now; what it holds open is cut off."""
    from mediagen.cli.keys import revoke as run
    from mediagen.cli.operating import Place

    raise typer.Exit(run(Place(config, data_dir), key, as_json=as_json))


@webhooks.command("rotate")
def rotate_webhook_secret(
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=720, help="How long the old secret still signs beside the new one.")
    ] = 24,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data_dir: DataOption = None,
    init: InitOption = False,
) -> None:
    """Make a new signing secret and print it, this once. Also the way to learn the one made at the first start."""
    from mediagen.cli.operating import Place
    from mediagen.cli.webhooks import rotate as run

    raise typer.Exit(run(Place(config, data_dir, init), overlap_hours=overlap_hours, as_json=as_json))


@clock.command("confirm")
def confirm_clock(as_json: JsonOption = False, config: ConfigOption = None, data_dir: DataOption = None) -> None:
    """Say that the clock of this machine is right, after it was set or the server was off for more than a day."""
    from mediagen.cli.clock import confirm as run
    from mediagen.cli.operating import Place

    raise typer.Exit(run(Place(config, data_dir), as_json=as_json))


def main() -> None:
    """Entry point of the ``mediagen`` command."""
    app()
