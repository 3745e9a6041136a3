"""The report as PDF: fonts, pages and tables; `serve.pdf` is what others call."""
