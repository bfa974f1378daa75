"""Trials as other programs read them: JUnit's XML, Markdown, SARIF. Pure. All text in them is strangers'."""
