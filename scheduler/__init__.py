"""The appointment scheduler: layers are rows, features are columns (docs/architecture.md)."""
