"""The sandbox: pulls images, unpacks them, and runs them in fully isolated containers."""
