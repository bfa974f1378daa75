"""What is known of an image as other programs read it: SBOMs, SARIF, a document, a table."""
