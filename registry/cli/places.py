"""How commands are told where something is: a repository, or a namespace with all below it."""

from __future__ import annotations

from typing import Annotated

import typer

RepositoryOption = Annotated[
    str | None, typer.Option("--repository", metavar="NAME", help="Of this repository.")
]
NamespaceOption = Annotated[
    str | None, typer.Option("--namespace", metavar="NAME", help="Of this namespace and all below it.")
]
OnArgument = Annotated[
    str,
    typer.Argument(metavar="NAME|NAMESPACE/", help="A repository, or a namespace with a slash at its end."),
]
