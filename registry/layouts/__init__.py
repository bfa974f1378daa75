"""Image layouts as files: read with all checks, and written (image-spec, image-layout.md). No network, and
none of the server's libraries."""
