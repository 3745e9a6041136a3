"""A report in plain language about one answer of the service: its facts, its text, and what checks the text."""
