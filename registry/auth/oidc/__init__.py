"""Sign-in by other issuers: people with OpenID Connect, and workloads with the tokens that they are given."""
