"""Longest kept (in characters) of texts that hosts choose; the pipeline bounds them to 200."""

from typing import Final

USER_ID: Final = 200
SESSION_ID: Final = 200
FEATURE: Final = 200
EXPERIMENT: Final = 200
ENVIRONMENT: Final = 40
RELEASE: Final = 200
ROUTE: Final = 255
MODEL: Final = 200
PROVIDER: Final = 200
NAME: Final = 255
PROMPT: Final = 200
TAG: Final = 200
PRICE_VERSION: Final = 60
TIER: Final = 40
SIZE: Final = 20
