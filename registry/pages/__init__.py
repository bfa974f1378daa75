"""What people look at: pages drawn from the answers of the API, in English, with or without JavaScript."""
