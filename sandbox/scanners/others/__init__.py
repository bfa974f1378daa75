"""Other scanners: images that look at the image under test, in a container of their own."""
