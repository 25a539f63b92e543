"""HTTP only: a request becomes a frozen command, one transaction, and an answer."""
