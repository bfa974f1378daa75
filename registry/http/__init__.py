"""How the registry is reached: handlers parse the request, call one use case, and render the answer."""
