"""What the registry asks of other servers, and the guard that keeps it off networks that are not theirs."""
