"""The pages of the clinic's people."""
