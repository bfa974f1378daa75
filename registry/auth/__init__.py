"""Who may do what: accounts, API tokens, the token service, and the access policy."""
