"""The REST API (FastAPI): one module per resource, one table of operations."""
