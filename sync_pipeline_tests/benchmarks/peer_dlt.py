"""dlt's `rest_api` source into Postgres, merged by id: at its defaults, or tuned.

Tuned: nested values stay JSON (as our `metadata` does), larger buffers and files, two normalise workers. `tuned_csv`, besides:
CSV through COPY instead of INSERTs, and the upsert strategy. Stands alone: it runs in an environment of its own, without this
project.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any
from urllib.parse import quote

TUNED = {
    "EXTRACT__WORKERS": "4",
    "NORMALIZE__WORKERS": "2",
    "LOAD__WORKERS": "4",
    "DATA_WRITER__BUFFER_MAX_ITEMS": "20000",
    "EXTRACT__DATA_WRITER__FILE_MAX_ITEMS": "50000",
    "NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS": "50000",
}


def run(mode: str, base_url: str, page_size: int, socket: str, database: str, user: str) -> int:
    import dlt
    from dlt.destinations.impl.postgres.configuration import PostgresCredentials
    from dlt.sources.helpers.rest_client.paginators import JSONResponseCursorPaginator
    from dlt.sources.rest_api import rest_api_source

    resource: dict[str, Any] = {
        "name": "registrations",
        "primary_key": "id",
        "write_disposition": {"disposition": "merge", "strategy": "upsert" if mode == "tuned_csv" else "delete-insert"},
        "endpoint": {
            "path": "v1/registrations",
            "data_selector": "data",
            "params": {"limit": page_size, "modified_since": "{incremental.start_value}"},
            "incremental": {"cursor_path": "modified_at", "initial_value": "2020-01-01T00:00:00.000Z"},
            "paginator": JSONResponseCursorPaginator(cursor_path="next_cursor", cursor_param="cursor"),
        },
    }
    if mode != "default":
        resource["max_table_nesting"] = 0
    source = rest_api_source({"client": {"base_url": base_url}, "resources": [resource]}, name="vendor")
    credentials = PostgresCredentials()
    # dlt writes a URL of this, unquoted: libpq takes a quoted folder in the host's place for a Unix socket.
    credentials.host, credentials.port, credentials.database = quote(socket, safe=""), 5432, database
    credentials.username, credentials.password = user, "unused"
    pipeline = dlt.pipeline(
        "bench", destination=dlt.destinations.postgres(credentials=credentials), dataset_name="bench"
    )
    info = pipeline.run(source, **({"loader_file_format": "csv"} if mode == "tuned_csv" else {}))
    info.raise_on_failed_jobs()
    with pipeline.sql_client() as client, client.execute_query("select count(*) from registrations") as found:
        return int(found.fetchone()[0])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--mode", choices=("default", "tuned", "tuned_csv"), required=True)
    options.add_argument("--base-url", required=True)
    options.add_argument("--page-size", type=int, required=True)
    options.add_argument("--socket", required=True)
    options.add_argument("--database", required=True)
    options.add_argument("--user", required=True)
    options.add_argument("--work", required=True, help="an empty folder for dlt's own state")
    given = options.parse_args()
    os.environ.update(
        DLT_DATA_DIR=given.work, RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="ERROR", **(
            {} if given.mode == "default" else TUNED
        )
    )  # fmt: skip
    rows = run(given.mode, given.base_url, given.page_size, given.socket, given.database, given.user)
    print(json.dumps({"received": rows}))
