"""Which recognisers of Presidio stand for a country's ids of people. No Presidio here: settings are checked with it."""

from collections.abc import Mapping
from typing import Final

NATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "AU": ("AuTfn", "AuMedicare"),
    "CA": ("CaSin",),
    "DE": ("DeTaxId", "DeIdCard", "DePassport", "DeSocialSecurity", "DeHealthInsurance", "DeFuehrerschein"),
    "ES": ("EsNif", "EsNie", "EsPassport"),
    "FI": ("FiPersonalIdentityCode",),
    "IN": ("InAadhaar", "InPan", "InPassport", "InVoter"),
    "IT": ("ItFiscalCode", "ItIdentityCard", "ItPassport", "ItDriverLicense"),
    "KR": ("KrRrn", "KrFrn", "KrDriverLicense", "KrPassport"),
    "NG": ("NgNin",),
    "PH": ("PhTin", "PhUmid", "PhPassport"),
    "PL": ("PlPesel",),
    "SE": ("SePersonnummer",),
    "SG": ("SgFin",),
    "TH": ("ThTnin",),
    "TR": ("TrNationalId",),
    "UK": ("UkNino", "UkPassport", "UkDrivingLicence"),
    "US": ("UsMbi", "UsHealthInsuranceMemberId"),
    "ZA": ("ZaIdNumber", "ZaPassport", "ZaDriverLicense", "ZaIncomeTaxNumber"),
}
