"""Where bytes live: the :class:`~registry.storage.store.BlobStore` protocol and its drivers."""
