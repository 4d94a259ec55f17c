"""The locked-down DuckDB: it answers questions about one run, and nothing gets out of it or into it."""

import json
import shutil
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flows.snapshot.step import Snapshot
from infra.cli.query import check, query
from infra.files.query import QueryError, SnapshotQuery
from infra.files.snapshots import SnapshotError, SnapshotStore, read_manifest
from tests.flows.snapshot import world as w

CANARY = "canary-6f1d"

# Placeholders: {out} the run directory, {file} a published file, {secret} a text file beside the run.
ESCAPES = [
    # reading files of the host
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_csv('{secret}', header = false)",
    "SELECT * FROM read_csv_auto('/proc/self/environ')",
    "SELECT * FROM read_csv('/proc/self/cmdline')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_json_auto('/proc/self/environ')",
    "SELECT * FROM read_ndjson_objects('{secret}')",
    "SELECT * FROM read_parquet('{out}/../secret.parquet')",
    "SELECT * FROM parquet_scan('{out}/../secret.parquet')",
    "SELECT * FROM '{secret}'",
    "FROM '/etc/passwd'",
    "TABLE '/etc/passwd'",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM parquet_metadata('{out}/../secret.parquet')",
    "SELECT * FROM parquet_schema('{out}/../secret.parquet')",
    "SELECT * FROM parquet_kv_metadata('{out}/../secret.parquet')",
    "SELECT * FROM read_duckdb('{out}/tidegate.duckdb')",
    "SELECT * FROM '{out}/tidegate.duckdb'",
    # out of the folder by links and dots
    "SELECT * FROM read_parquet('{out}/snapshot/accounts/link.parquet')",
    "SELECT * FROM read_text('{out}/snapshot/accounts/secret.txt')",
    "SELECT * FROM read_text('{out}/snapshot/../../secret.txt')",
    "SELECT * FROM read_text('{out}/snapshot/accounts/columns.parquet/../secret.txt')",
    "SELECT * FROM read_text('{out}/snapshot/manifest.json')",
    "SELECT * FROM read_parquet('{out}/snapshot/accounts/unlisted.parquet')",
    # looking around
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM glob('{out}/**')",
    "SELECT * FROM read_parquet('{out}/snapshot/*/*.parquet')",
    "SELECT * FROM read_parquet(['{file}', '{out}/../secret.parquet'])",
    "SELECT * FROM duckdb_extensions()",
    "SELECT getenv('HOME')",
    "SELECT * FROM getenv('HOME')",
    # the network
    "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
    "SELECT * FROM read_parquet('https://127.0.0.1:9/x.parquet')",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT * FROM read_text('file:///etc/passwd')",
    "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 't')",
    "SELECT * FROM sqlite_scan('{secret}', 't')",
    # writing
    "COPY (SELECT 1) TO '{out}/x.csv'",
    "COPY accounts TO '{file}' (FORMAT parquet)",
    "COPY accounts FROM '{secret}'",
    "COPY FROM DATABASE memory TO other",
    "EXPORT DATABASE '{out}/export'",
    "IMPORT DATABASE '{out}/export'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE TEMP TABLE t AS SELECT * FROM accounts",
    "CREATE OR REPLACE VIEW accounts AS SELECT 1",
    "CREATE VIEW v AS SELECT * FROM read_text('{secret}')",
    "CREATE MACRO m() AS TABLE SELECT * FROM read_text('{secret}')",
    "CREATE FUNCTION f(x) AS x + 1",
    "CREATE SCHEMA s",
    "CREATE SEQUENCE q",
    "CREATE TYPE e AS ENUM ('a')",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "INSERT INTO accounts SELECT * FROM accounts",
    "UPDATE accounts SET equity = 0",
    "DELETE FROM accounts",
    "DROP VIEW accounts",
    "ALTER VIEW accounts RENAME TO x",
    "TRUNCATE accounts",
    "WITH x AS (INSERT INTO accounts SELECT * FROM accounts RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM accounts RETURNING *) SELECT * FROM x",
    "WITH x AS (COPY (SELECT 1) TO '{out}/x.csv') SELECT * FROM x",
    # other databases and code
    "ATTACH '{out}/tidegate.duckdb' AS d",
    "ATTACH ':memory:' AS d",
    "DETACH memory",
    "USE system",
    "INSTALL httpfs",
    "LOAD httpfs",
    "FORCE INSTALL json FROM community",
    "UPDATE EXTENSIONS",
    # settings
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET GLOBAL allowed_directories = ['/']",
    "SET allowed_paths = ['/etc/passwd']",
    "SET memory_limit = '100GB'",
    "SET VARIABLE x = 1",
    "RESET enable_external_access",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "PRAGMA profiling_output = '{out}/profile.json'",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CALL enable_logging(storage = 'file', storage_path = '{out}/log')",
    "SELECT * FROM enable_logging(storage = 'file')",
    "SELECT set_config('enable_external_access', 'true')",
    # several statements, and statements inside others
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "SELECT 1; SELECT 2",
    "/* ; */ SELECT 1; DROP VIEW accounts -- x",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{out}/x.csv''')",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM query_table(['/etc/passwd'])",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}/x.csv'",
    "PREPARE p AS SELECT * FROM read_text('{secret}')",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN TRANSACTION",
    "COMMIT",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
    "SELECT * FROM pandas_frame",
    "SELECT * FROM json_execute_serialized_sql('{{}}')",
    "",
    ";",
    "SELEC 1",
    "\x00",
]


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published run, with a secret beside it and links to it inside."""
    place = tmp_path_factory.mktemp("query")
    (place / "secret.txt").write_text(CANARY)
    out = place / "run"
    out.mkdir()
    listings, history = w.a_history(processes=2)
    SnapshotStore(out).publish(w.run(Snapshot(rows_max=1), listings, history))
    folder = out / "snapshot" / "accounts"
    listed = next(file.path for file in read_manifest(out).files if file.table == "accounts" and file.rows)
    (place / "secret.parquet").write_bytes((out / listed).read_bytes())
    (folder / "unlisted.parquet").write_bytes((out / listed).read_bytes())
    (folder / "link.parquet").symlink_to(place / "secret.parquet")
    (folder / "secret.txt").symlink_to(place / "secret.txt")
    return out


@pytest.fixture(scope="module")
def snapshots(run_directory: Path) -> SnapshotQuery:
    """One connection for all questions: an escape that changed it would show in the next."""
    return SnapshotQuery(run_directory)


def _state_of_disk(directory: Path) -> dict[str, bytes]:
    place = directory.parent
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("text", ESCAPES)
def test_an_escape_is_refused(run_directory: Path, snapshots: SnapshotQuery, text: str) -> None:
    """Nothing but the published rows can be read, and nothing can be written, by any SQL."""
    pandas_frame = [{"canary": CANARY}]
    file = next(file.path for file in read_manifest(run_directory).files if file.table == "accounts" and file.rows)
    before = _state_of_disk(run_directory)
    names = {"out": run_directory, "file": run_directory / file, "secret": run_directory.parent / "secret.txt"}

    with pytest.raises(QueryError) as refusal:
        snapshots.query(text.format(**names))

    assert CANARY not in str(refusal.value) and "\n" not in str(refusal.value)
    assert _state_of_disk(run_directory) == before
    assert snapshots.query("SELECT count(*) AS n FROM accounts").rows.to_pylist() == [{"n": 9}]
    assert pandas_frame


def test_there_are_enough_escapes() -> None:
    """The suite stays a suite: each attempt once, and many."""
    attempts = len(ESCAPES)

    distinct = len(set(ESCAPES))

    assert distinct == attempts >= 100


@pytest.mark.parametrize(
    "text",
    [
        "FROM accounts",
        "SHOW TABLES",
        "DESCRIBE accounts",
        "SUMMARIZE balances",
        "VALUES (1)",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "SELECT account, sum(amount) FROM balances GROUP BY ALL ORDER BY ALL",
        "SELECT day, date_trunc('hour', time_utc) FROM tier_changes",
    ],
)
def test_questions_are_answered(snapshots: SnapshotQuery, text: str) -> None:
    """What an analyst types is not in the way of the locks."""
    answer = snapshots.query(text)

    rows = answer.rows.num_rows

    assert rows > 0 and not answer.truncated


def test_parameters_are_bound(snapshots: SnapshotQuery) -> None:
    """A value is a value, whatever it looks like."""
    text = "SELECT DISTINCT account FROM accounts WHERE account = $name"

    found = snapshots.query(text, {"name": "bob"}).rows.to_pylist()
    injected = snapshots.query(text, {"name": "bob' OR '1' = '1"}).rows.to_pylist()

    assert (found, injected) == ([{"account": "bob"}], [])


def test_an_endless_query_is_stopped(snapshots: SnapshotQuery) -> None:
    """A query that would run for hours ends at its limit, and the connection lives on."""
    text = "SELECT count(*) FROM range(10000000) AS a, range(10000000) AS b WHERE a.range * b.range % 7 = 3"
    began = time.monotonic()

    with pytest.raises(QueryError, match=r"stopped after 0\.2 s"):
        snapshots.query(text, timeout_seconds=0.2)

    assert time.monotonic() - began < 10
    assert snapshots.query("SELECT 1 AS one").rows.to_pylist() == [{"one": 1}]


def test_memory_is_bounded_and_nothing_spills(run_directory: Path) -> None:
    """A query larger than its memory fails with a sentence, and writes no temporary file."""
    before = _state_of_disk(run_directory)

    with SnapshotQuery(run_directory, memory_limit="60MB") as small, pytest.raises(QueryError, match=r"(?i)memory"):
        small.query("SELECT list(md5(range::VARCHAR)) AS x FROM range(5000000) GROUP BY range % 1000003 ORDER BY x")

    assert _state_of_disk(run_directory) == before


def test_rows_are_limited(snapshots: SnapshotQuery) -> None:
    """A limit reads no more than it says, and says that there is more."""
    answer = snapshots.query("SELECT * FROM range(1000000)", rows_max=10)

    exact = snapshots.query("SELECT * FROM range(10)", rows_max=10)

    assert (answer.rows.num_rows, answer.truncated) == (10, True)
    assert (exact.rows.num_rows, exact.truncated) == (10, False)


def test_checks_of_a_sound_run_are_empty(snapshots: SnapshotQuery) -> None:
    """What the store wrote passes its own rules, through the same locks."""
    found = snapshots.check()

    offending = {name: answer.rows.to_pylist() for name, answer in found.items() if answer.rows.num_rows}

    assert offending == {} and len(found) > 15


APP = typer.Typer()
APP.command("query")(query)
APP.command("check")(check)


def test_a_missing_snapshot_file_is_told_in_one_line(run_directory: Path, tmp_path: Path) -> None:
    """DuckDB's own exception leaves with a traceback, from every command that asks a run."""
    copy = tmp_path / "run"
    shutil.copytree(run_directory, copy)
    next(iter(sorted(copy.glob("snapshot/accounts/day=*/*.parquet")))).unlink()

    with pytest.raises(SnapshotError, match="holds snapshot files that cannot be read: IO Error"):
        SnapshotQuery(copy)


def test_query_command_prints_json(run_directory: Path) -> None:
    """One object on stdout, amounts as exact decimal strings."""
    text = "SELECT account, asset, amount, frame FROM balances WHERE frame = 2 AND account = 'bob' ORDER BY asset"

    result = CliRunner().invoke(APP, ["query", text, "--out", str(run_directory), "--json"])

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "columns": ["account", "asset", "amount", "frame"],
        "rows": [["bob", "BTC", "0.24000000", 2], ["bob", "USDC", "500.00000000", 2]],
        "truncated": False,
    }


def test_query_command_prints_csv_and_tables(run_directory: Path) -> None:
    """The same rows for a spreadsheet and for a person; brackets in a value are not taken for markup."""
    text = "SELECT '[red]x' AS \"[bold]\", 1.5 AS number"

    as_csv = CliRunner().invoke(APP, ["query", text, "--out", str(run_directory), "--csv"])
    as_table = CliRunner().invoke(APP, ["query", text, "--out", str(run_directory)])

    assert as_csv.stdout == "[bold],number\n[red]x,1.5\n"
    assert "[bold]" in as_table.stdout and "[red]x" in as_table.stdout and "(1 row)" in as_table.stdout


def test_a_wide_table_is_whole_where_it_is_piped(run_directory: Path) -> None:
    """A pipe has no width: every row is one line, with no value broken or cut."""
    text = "SELECT * FROM accounts ORDER BY frame, number LIMIT 2"

    result = CliRunner().invoke(APP, ["query", text, "--out", str(run_directory)])

    lines = result.stdout.splitlines()
    assert len(lines) == 5 and lines[-1] == "(2 rows)"
    assert "tidegate-standard" in lines[2] and "2026-02-05 23:00:00" in lines[2]
    assert "tidegate-portfolio" in lines[3]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["query", "SELECT 1", "--out", "nowhere"], 2, "not a directory"),
        (["query", "SELECT 1", "--out", "."], 2, "manifest"),
        (["query", "SELECT nothing", "--out", "{out}"], 1, "nothing"),
        (["query", "DROP VIEW accounts", "--out", "{out}"], 1, "only SELECT"),
        (["query", "SELECT 1", "--out", "{out}", "--json", "--csv"], 2, "one of"),
    ],
)
def test_a_wrong_command_is_one_line(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, word: str
) -> None:
    """Wrong use exits 2, a failed query 1, each with one line that says why."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(APP, [argument.format(out=run_directory) for argument in arguments])

    assert result.exit_code == code
    assert word in result.stderr and result.stderr.count("\n") == 1


def test_check_command_exits_1_with_the_offending_rows(run_directory: Path, tmp_path: Path) -> None:
    """A broken rule fails the command, names the rule and shows the rows; a sound run passes."""
    listings, history = w.a_history(processes=2)
    snapshot = Snapshot(rows_max=1)
    broken = w.run(snapshot, listings, history[:1])
    SnapshotStore(tmp_path).publish([file for file in broken if file.table != "net_changes"])

    sound = CliRunner().invoke(APP, ["check", "--out", str(run_directory)])
    failed = CliRunner().invoke(APP, ["check", "--out", str(tmp_path), "--json"])

    assert sound.exit_code == 0 and "FAILED" not in sound.stdout
    assert failed.exit_code == 1
    assert set(json.loads(failed.stdout)["failed"]) == {
        "balances_follow_from_changes",
        "every_change_is_in_one_batch",
        "positions_follow_from_changes",
    }
    assert "balances_follow_from_changes" in failed.stderr
