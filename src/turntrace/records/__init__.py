"""The vocabulary: frozen dataclasses that every floor may speak. Imports nothing of ours."""
