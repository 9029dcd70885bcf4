"""Tables of ended runs → a file that spares reading them again, and back; keyed by run and the time that it ended.

A run that has ended never changes, and one that is started again is another run or ends at another time, so a key
cannot go stale. The file begins with a digest of the rest: one that was cut off, altered, or written by another version
is passed over and written anew. It is replaced as a whole, so that readers and writers at the same time do no harm.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

VERSION = 1
DIGEST_BYTES = 32
FOLDER_VARIABLE = "ANALYSIS_CACHE"
RunKey = tuple[str, int]
"""Id of a run and when it ended, milliseconds since 1970."""


def cache_path(tracking_uri: str, experiment_id: str, table: str) -> Path:
    """Return where one table of a study is kept: in $ANALYSIS_CACHE, or the user's cache folder."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "depth-trainability")
    store = hashlib.sha256(f"{tracking_uri} {experiment_id}".encode()).hexdigest()[:16]
    return folder / f"{store}-{Path(table).stem}.cache"


def read_cache(path: Path, columns: Sequence[str]) -> dict[RunKey, pd.DataFrame]:
    """Return the tables, of floats, that a file holds; none when it is missing, damaged, or has other columns."""
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    digest, parquet = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(parquet).digest() != digest:
        return {}
    stacked = pq.read_table(pa.BufferReader(parquet))
    index = json.loads((stacked.schema.metadata or {}).get(b"runs", b"{}"))
    if index.get("version") != VERSION or stacked.column_names != list(columns):
        return {}
    rows = stacked.to_pandas()
    ends = np.cumsum([count for _, _, count in index["runs"]])
    return {
        (run_id, end_time): rows.iloc[end - count : end]
        for (run_id, end_time, count), end in zip(index["runs"], ends, strict=True)
    }


def write_cache(path: Path, columns: Sequence[str], tables: Mapping[RunKey, pd.DataFrame]) -> None:
    """Keep the tables; where the folder cannot be written there is no cache, and everything is read each time."""
    index = {"version": VERSION, "runs": [[*key, len(table)] for key, table in tables.items()]}
    rows = pd.concat(tables.values(), ignore_index=True) if tables else pd.DataFrame(columns=list(columns), dtype=float)
    stacked = pa.Table.from_pandas(rows[list(columns)], preserve_index=False)
    stacked = stacked.replace_schema_metadata({b"runs": json.dumps(index).encode()})
    sink = pa.BufferOutputStream()
    pq.write_table(stacked, sink, compression="zstd")
    parquet = sink.getvalue().to_pybytes()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as draft:
            try:
                draft.write(hashlib.sha256(parquet).digest() + parquet)
                draft.flush()
                os.fsync(draft.fileno())
                Path(draft.name).replace(path)
            except OSError:
                Path(draft.name).unlink(missing_ok=True)
                raise
