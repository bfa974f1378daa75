"""What happens after a push: the queue and its leases, verdicts, and the gate."""
