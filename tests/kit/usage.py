"""How much repositories hold, counted anew from all that there is."""

from __future__ import annotations

from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from registry.db.dialect import blocking_url

_QUERY = """
SELECT repositories.name,
    (SELECT coalesce(sum(blobs.size), 0) FROM blob_links JOIN blobs ON blobs.id = blob_links.blob_id
     WHERE blob_links.repository_id = repositories.id)
    + (SELECT coalesce(sum(manifests.size), 0) FROM manifests WHERE repository_id = repositories.id) AS bytes,
    (SELECT count(*) FROM tags WHERE repository_id = repositories.id) AS tags,
    (SELECT count(*) FROM upload_sessions WHERE repository_id = repositories.id) AS uploads,
    usage.bytes + coalesce(changes.bytes, 0) AS kept_bytes,
    usage.tags + coalesce(changes.tags, 0) AS kept_tags,
    usage.uploads + coalesce(changes.uploads, 0) AS kept_uploads
FROM repositories
LEFT JOIN repository_usage AS usage ON usage.repository_id = repositories.id
LEFT JOIN (
    SELECT repository_id, sum(bytes) AS bytes, sum(tags) AS tags, sum(uploads) AS uploads
    FROM usage_changes GROUP BY repository_id
) AS changes ON changes.repository_id = repositories.id
"""
Counts = tuple[int, int, int]


def recounted(database_url: str) -> dict[str, Counts]:
    """Bytes, tags and uploads of each repository, by name; that they are what the database keeps is asserted,
    and that it keeps nothing else."""
    engine = create_engine(blocking_url(make_url(database_url)))
    with engine.connect() as connection:
        rows = connection.execute(text(_QUERY)).all()
        kept = connection.execute(text("SELECT count(*) FROM repository_usage")).scalar_one()
        stray = "repository_id NOT IN (SELECT id FROM repositories)"
        assert connection.execute(text(f"SELECT * FROM usage_changes WHERE {stray}")).all() == []
    engine.dispose()
    counted: dict[str, Counts] = {}
    for row in rows:
        counted[row.name] = (int(row.bytes), row.tags, row.uploads)
        assert (row.kept_bytes, row.kept_tags, row.kept_uploads) == counted[row.name], row.name
    assert kept == len(rows)
    return counted
