"""The rules of the flow, pure: what is decided, not how it is performed."""
