"""What the OCI specifications say, as pure values: no IO, no clock, no database."""
