"""What is found and what is left alone, by the real recognisers."""

import json
from pathlib import Path

import pytest

from turntrace.integrations.presidio.engine import SIGNS, Engine
from turntrace.integrations.presidio.screen import Sign

FIXTURES = Path(__file__).parent.parent.parent / "fixtures"

FOUND = [
    ("write to anna.b+x@example.co.uk, please", "anna.b+x@example.co.uk", "EMAIL_ADDRESS"),
    ("https://x.example/?to=anna%40example.com", "anna%40example.com", "EMAIL_ADDRESS"),
    ("anna [at] example.com", "anna [at] example.com", "EMAIL_ADDRESS"),
    ("pay rahul.upi@oksbi by UPI", "rahul.upi@oksbi", "EMAIL_ADDRESS"),
    ("call +44 20 7946 0958 now", "+44 20 7946 0958", "PHONE_NUMBER"),
    ("call (415) 555-0132 now", "(415) 555-0132", "PHONE_NUMBER"),
    ("my mobile: 467 3395", "467 3395", "PHONE_NUMBER"),
    ("card 4111 1111 1111 1111", "4111 1111 1111 1111", "CREDIT_CARD"),
    ("card 2297051310616322 please", "2297051310616322", "CREDIT_CARD"),
    ("IBAN DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00", "IBAN_CODE"),
    ("my iban is gb42nawi04454264788619", "gb42nawi04454264788619", "IBAN_CODE"),
    ("SSN 123-45-6789", "123-45-6789", "US_SSN"),
    ("her ssn: 219099999", "219099999", "US_SSN"),
    ("from 192.0.2.17 and", "192.0.2.17", "IP_ADDRESS"),
    ("from 2001:db8::8a2e:370:7334 and", "2001:db8::8a2e:370:7334", "IP_ADDRESS"),
    ("mac 00:1A:2B:3C:4D:5E", "00:1A:2B:3C:4D:5E", "MAC_ADDRESS"),
    ("wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO"),
    ("passport number XG9382049", "XG9382049", "PASSPORT_NUMBER"),
    ("driver’s license Y820-9283-4432", "Y820-9283-4432", "DRIVER_LICENSE"),
    ("Account No. 'SBIN012345678901'", "SBIN012345678901", "BANK_ACCOUNT"),
    ("patient ID PHX-839221", "PHX-839221", "ID_NUMBER"),
    ("Tax ID 94-2841935", "94-2841935", "TAX_ID"),
    ("date of birth: 1984-02-29", "1984-02-29", "DATE_OF_BIRTH"),
    ("I live at 742 Evergreen Terrace, Springfield", "742 Evergreen Terrace, Springfield", "STREET_ADDRESS"),
    ("PSC 6293, Box 8158\nAPO AP 04336", "PSC 6293, Box 8158\nAPO AP 04336", "STREET_ADDRESS"),
    ("My name is Aantje Mourik.", "Aantje Mourik", "PERSON"),
    ("please correct it to Dr. Cettina Fanucci?", "Cettina Fanucci", "PERSON"),
    ("password: hunter2", "hunter2", "PASSWORD"),
    ("and her password !PurpleSky77.", "!PurpleSky77.", "PASSWORD"),
    ("password was 'Knight Rider!' then", "Knight Rider!", "PASSWORD"),
    ("postgres://app:s3cr3t@db/prod", "app:s3cr3t", "PASSWORD"),
    ("PIN: 4711", "4711", "PASSWORD"),
    ("Authorization: Bearer abcDEF123456ghiJKL", "abcDEF123456ghiJKL", "API_KEY"),
    ("key sk-" + "aB3" * 12, "sk-" + "aB3" * 12, "API_KEY"),
    ("AKIA" + "Q7R2" * 4, "AKIA" + "Q7R2" * 4, "API_KEY"),
    ("ghp_" + "a1B2" * 9, "ghp_" + "a1B2" * 9, "API_KEY"),
    ("eyJhbGciOiJIUzI1NiJ9." + "a1" * 20 + "." + "b2" * 20, None, "JWT"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nabc\n-----END RSA PRIVATE KEY-----", None, "PRIVATE_KEY"),
    ("-----BEGIN PRIVATE KEY-----\ncut off", None, "PRIVATE_KEY"),
    ("see linkedin.com/in/anna-b", "anna-b", "URL"),
    ("\uff41nna＠ex\u200bample.com", None, "EMAIL_ADDRESS"),
    ("card ４１１１ １１１１ １１１１ １１１１", "４１１１ １１１１ １１１１ １１１１", "CREDIT_CARD"),
    ("SSN 219‑09‑9999", "219‑09‑9999", "US_SSN"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value", "kind"), FOUND)
def test_it_is_found(engine: Engine, text: str, value: str | None, kind: str) -> None:
    found = engine.analyze(text)
    assert isinstance(found, list)
    assert [(text[item.start : item.end], item.type) for item in found] == [(value or text, kind)]


LEFT_ALONE = [
    "The meeting is on 2024-08-06 at 10:30, room B.",
    "gpt-4o-2024-08-06 took 1234567 tokens in 2.345678 seconds",
    "call_abc123XYZ456def789GHI012jk finished",
    "chatcmpl-9fJ2kLmN0pQrStUvWxYz12345678",
    "3f2504e0-4f89-41d3-9a0c-0305e82c3301",
    "I forgot my password, how can I reset the password?",
    "The forgotten password forum thread has 12 posts.",
    "max_tokens=4096 temperature=0.7 top_p=1.0",
    "See https://docs.example.com/guide/page?lang=en&page=2 for more.",
    "version 3.11.7 of Python, numpy 2.4.6",
    "git commit 2f7d544 on branch main",
    "from 1965-1976 and 1689-1702",
    "It was founded in 1977 with 12 members.",
    "npm install react@18.2.0 && uses: actions/checkout@v4",
    "0.610865 - 0.436332",
    "I have 3 cars in the park and 2 more on my way.",
    "moved to Python 3.11, sent to GPT-4, return to Step 2",
    "<EMAIL_k1f2a3b4c> and <PASSWORD_k00000000>, password: <PASSWORD_k12345678>",
    "[redaction failed: time limit]",
    "日本語のテキスト、数字は 12 です。",
]


@pytest.mark.parametrize("text", LEFT_ALONE)
def test_it_is_left_alone(engine: Engine, text: str) -> None:
    assert engine.analyze(text) == []


def _texts() -> list[str]:
    texts = [text for text, *_ in FOUND] + LEFT_ALONE
    for path in sorted((FIXTURES / "pii").glob("*_half.jsonl")):
        texts += [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    for line in (FIXTURES / "conversations" / "sgd_sessions.jsonl").read_text("utf-8").splitlines():
        texts += [message["content"] for message in json.loads(line)["messages"]]
    return texts


def test_screening_changes_no_finding(engine: Engine) -> None:
    for text in _texts():
        assert engine.analyze(text) == engine.analyze(text, Sign.ALL), text


def test_every_recogniser_says_which_signs_it_needs(engine: Engine) -> None:
    assert {recognizer.name for recognizer in engine.registry.recognizers} == set(SIGNS)


def test_a_long_text_gives_what_its_parts_give(engine: Engine) -> None:
    pieces = ["mail anna@example.com now. ", "password: hunter2 ", "card 4111 1111 1111 1111 ", "plain words here. "]
    text = "".join(pieces[index % 4] + "filler text " * (index % 37) for index in range(400))
    found = engine.analyze(text)
    assert isinstance(found, list)
    values = [text[item.start : item.end] for item in found]
    assert values == ["anna@example.com", "hunter2", "4111 1111 1111 1111"] * 100
