"""Names, places and organisations by a spaCy model that the user names. Imports Presidio; downloads nothing."""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import regex
from presidio_analyzer import EntityRecognizer, RecognizerResult

from turntrace.integrations.presidio.listed import found_by

_TYPES: Final = {
    "PERSON": "PERSON",
    "PER": "PERSON",
    "GPE": "LOCATION",
    "LOC": "LOCATION",
    "LOCATION": "LOCATION",
    "FAC": "LOCATION",
    "NORP": "NRP",
    "NRP": "NRP",
    "ORG": "ORGANIZATION",
    "ORGANIZATION": "ORGANIZATION",
}
_SCORE: Final = 0.6  # below that of any pattern whose form proves it
_KEPT_PIPES: Final = frozenset({"tok2vec", "transformer", "ner"})
_NO_NAME: Final = regex.compile(r"[\d_/\\{}<>=#@`]|^[^\p{L}]*$|\.\w{1,4}$|\(\)")
# What models trained on news take for people and places in texts about software.
_SOFTWARE: Final = frozenset(
    ["docker", "redis", "grafana", "ubuntu", "debian", "kafka", "kubernetes", "python", "javascript", "java", "rust",
     "fastapi", "flask", "django", "postgres", "postgresql", "sqlite", "mysql", "mariadb", "nginx", "linux", "json",
     "yaml", "html", "css", "sql", "api", "http", "https", "url", "git", "github", "gitlab", "jenkins", "terraform",
     "ansible", "prometheus", "celery", "pandas", "numpy", "pytorch", "react", "vue", "angular", "node", "npm",
     "bash", "openai", "anthropic", "claude", "gemini", "llama", "mistral", "chatgpt", "gpt", "markdown", "unicode",
     "regex", "presidio",
     "user", "assistant", "system", "email", "phone", "name", "address", "hi", "hello", "thanks", "ok"]
)  # fmt: skip


class NamedEntities(EntityRecognizer):
    """People, places, groups and organisations found by the entity recogniser of a spaCy model, and by it alone.

    Args:
        model: import name of an installed model package, or a path that spaCy loads.

    Raises:
        ImportError, OSError: the model is not there.
    """

    def __init__(self, model: str) -> None:
        self._nlp = _load(model)
        super().__init__(supported_entities=sorted(set(_TYPES.values())), name="NamedEntities")

    def load(self) -> None:
        """Loaded by the constructor."""

    def analyze(self, text: str, entities: Sequence[str], nlp_artifacts: Any = None) -> list[RecognizerResult]:
        """The named entities of a text."""
        return list(self._results(text))

    def _results(self, text: str) -> Iterator[RecognizerResult]:
        for entity in self._nlp(text).ents:
            entity_type = _TYPES.get(entity.label_)
            if entity_type is None or not _is_name(entity.text):
                continue
            result = found_by(self, entity.start_char, entity.end_char, _SCORE)
            result.entity_type = entity_type
            yield result


def _load(model: str) -> Any:
    if model.isidentifier():
        nlp = importlib.import_module(model).load()
    else:
        import spacy  # only here: a package brings its own loader

        nlp = spacy.load(model)
    for pipe in set(nlp.pipe_names) - _KEPT_PIPES:
        nlp.disable_pipe(pipe)
    return nlp


def _is_name(text: str) -> bool:
    return text.lower().strip() not in _SOFTWARE and not _NO_NAME.search(text)
