"""The network of a run: none but loopback, or what its spec asks for and the operator permits."""
