"""What the name of a field tells about its value: `{"password": …}` is a password, `{"phone": …}` a telephone."""

import re
from functools import lru_cache
from typing import Final

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# Names, their words joined by "_", whose value is personal or secret whatever it looks like.
_KNOWN: Final = {
    "PASSWORD": "password passwd passphrase pwd passcode user_password new_password old_password current_password "
    "db_password login_password otp one_time_password pin pin_code cvv cvc cvv2 security_code security_answer",
    "API_KEY": "api_key apikey x_api_key secret client_secret secret_key secret_access_key access_key access_token "
    "refresh_token id_token auth_token bearer_token session_token api_token authorization proxy_authorization cookie "
    "set_cookie x_auth_token x_csrf_token csrf_token credentials",
    "PRIVATE_KEY": "private_key ssh_key",
    "PERSON": "first_name last_name full_name surname given_name family_name middle_name maiden_name firstname "
    "lastname fullname customer_name patient_name employee_name account_holder cardholder cardholder_name contact_name",
    "US_SSN": "ssn social_security_number social_security us_ssn",
    "DATE_OF_BIRTH": "date_of_birth dob birth_date birthdate birthday",
    "ADDRESS": "street street_address home_address postal_address mailing_address billing_address shipping_address "
    "address_line address_line_1 address_line_2 address_1 address_2 address1 address2",
    "CREDIT_CARD": "credit_card credit_card_number card_number cc_number debit_card_number",
    "IBAN_CODE": "iban",
    "PASSPORT_NUMBER": "passport passport_number passport_no",
    "EMAIL_ADDRESS": "email email_address e_mail",
    "PHONE_NUMBER": "phone phone_number telephone mobile mobile_number cell_phone phone_no",
    "BANK_ACCOUNT": "bank_account bank_account_number account_number account_no",
}
_TYPE_OF: Final = {name: entity_type for entity_type, names in _KNOWN.items() for name in names.split()}

# Words that tell the analyser what the value beside them is; the value itself must still look the part.
_TELLING_WORDS: Final = (
    "phone telephone tel mobile cell fax whatsapp card credit debit account acct iban bank routing bic swift ssn "
    "social passport license licence tax tin itin vat nhs insurance policy patient member customer employee national "
    "identity aadhaar pan medical mail email zip postal wallet bitcoin btc ip ipv4 ipv6 mac birth dob driver"
)
_TELLING: Final = frozenset(_TELLING_WORDS.split())


@lru_cache(maxsize=4096)
def told_by(key: str) -> tuple[str | None, str]:
    """What a key tells of the value beneath it.

    Returns:
        The entity type of every value under this key, or None; and the words of a telling key as a prefix that gives
        the value its context ("home phone: "), or "".
    """
    words = [word.lower() for word in _WORDS.findall(key[:64])]
    prefix = " ".join(words) + ": " if any(word in _TELLING for word in words) else ""
    return _TYPE_OF.get("_".join(words)), prefix
