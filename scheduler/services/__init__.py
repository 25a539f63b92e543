"""The verbs. Each takes (session, command, *, now), leaves the commit to its caller and knows nothing of Flask."""
