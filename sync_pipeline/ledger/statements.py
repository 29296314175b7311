"""The ledger's statements, composed for each canonical table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg import sql

from sync_pipeline.ledger.checked import Target
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


@dataclass(frozen=True, slots=True)
class Statements:
    """The ledger's statements for one canonical table, composed from the contract's columns."""

    parameters: dict[str, Any]
    create: sql.SQL
    clear: sql.SQL
    copy: sql.SQL
    apply: sql.SQL
    cured: sql.SQL
    put: sql.SQL
    release: sql.SQL
    compare: sql.SQL
    unseen: sql.SQL
    unknown: sql.SQL
    copy_new: sql.SQL
    hand_on: sql.SQL

    @classmethod
    def of(cls, target: Target) -> Statements:
        contract = target.contract
        texts = _composed(contract.table, tuple((column.name, column.type) for column in contract.columns))
        parameters = {
            "connection": target.feed.connection,
            "feed": target.feed.feed,
            "parent_feed": contract.parent_feed,
            "contract_version": contract.version,
            "table": contract.table,
            "handoff": target.handoff,
            "handoff_feeds": list(target.handoff_feeds),
        }
        return cls(parameters, *texts)


@lru_cache(maxsize=64)
def _composed(canonical: str, columns: tuple[tuple[str, str], ...]) -> tuple[sql.SQL, ...]:
    """The statements for a table, in the order of Statements' fields. Composed once: doing it for each page group is slow."""
    schema, _, table = canonical.partition(".")
    names = [sql.Identifier(name) for name, _ in columns]
    places: dict[str, sql.Composable] = {
        "target": sql.Identifier(schema, table),
        "stage": sql.Identifier(f"stage_{schema}_{table}"),
        "columns": sql.SQL(", ").join(names),
        "target_columns": sql.SQL(", ").join([sql.SQL("t.{}").format(name) for name in names]),
        "stage_columns": sql.SQL(", ").join([sql.SQL("s.{}").format(name) for name in names]),
        "assignments": sql.SQL(", ").join([sql.SQL("{0} = excluded.{0}").format(name) for name in names]),
        "definitions": sql.SQL(", ").join(
            [
                sql.SQL("{} {} not null").format(name, as_sql(type_))
                for name, (_, type_) in zip(names, columns, strict=True)
            ]
        ),
    }
    templates = (
        SQL.create_stage,
        SQL.clear_stage,
        SQL.copy_stage,
        SQL.apply_stage,
        SQL.quarantine_cured,
        SQL.quarantine_put,
        SQL.release_held,
        SQL.compare_stage,
        SQL.unseen,
        SQL.unknown,
        SQL.copy_new,
        SQL.hand_on,
    )
    return tuple(as_sql(as_sql(text).format(**places).as_string()) for text in templates)


def as_sql(text: str) -> sql.SQL:
    """A statement of this room, or a column type of a contract: text of ours, never of a vendor."""
    return sql.SQL(text)
