"""A support bot worth reading: retrieval, re-ranking, a tool, a streamed answer, traced by Turntrace."""
