"""Optional dependencies, one package or module each; nothing here is imported before it is needed."""
