"""The place that a request names: a repository, a namespace with all below it, or everything."""

from __future__ import annotations

from registry.auth import places
from registry.auth.places import Place
from registry.errors import RequestInvalidError
from registry.http.api.fields import NamespaceName, RepositoryName
from registry.http.api.models import PageQuery


class PlaceQuery(PageQuery):
    """Of which place."""

    repository: RepositoryName | None = None
    namespace: NamespaceName | None = None


def place_of(repository: str | None, namespace: str | None) -> Place | None:
    """The place that a request names; ``None`` is everything.

    Raises:
        RequestInvalidError: both of them.
        NameInvalidError: outside the grammar.
    """
    if repository is not None and namespace is not None:
        raise RequestInvalidError("it is of a repository or of a namespace, not of both")
    if repository is not None:
        return places.repository(repository)
    return None if namespace is None else places.namespace(namespace)
