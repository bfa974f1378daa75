"""Images on the worker: pull and verify, unpack in a confined child, share as snapshots, mount for a run."""
