"""What a dossier is asked for, and by which texts: one template of a line for each.

NIST SP 800-226 goes by its sections, EDPB opinion 28/2024 by its paragraphs, OpenDP's registry by
its fields.
"""

from collections.abc import Mapping

from synthdp.privacy.promise.dossier import Line

_NIST, _EDPB, _REGISTRY = "NIST SP 800-226", "EDPB 28/2024", "OpenDP registry"
_PARAMETERS, _DOCUMENTS = f"{_REGISTRY}: privacy_parameters", f"{_EDPB}, documentation"
_TUNING = f"{_REGISTRY}: preprocessing_and_hyperparameter_tuning"

#: What is asked for, by key: in a few words, then by which texts and sections.
_ASKED: Mapping[str, tuple[str, ...]] = {
    # The top of NIST's pyramid: epsilon, delta, unit, composition.
    "epsilon": ("Epsilon", f"{_NIST}, 2.2", _PARAMETERS),
    "delta": ("Delta", f"{_NIST}, 2.3", _PARAMETERS),
    "original_parameters": ("Original parameters", f"{_NIST}, 2.3", f"{_REGISTRY}: variant_name"),
    "unit": ("Unit of privacy, and neighbours", f"{_NIST}, 2.4", f"{_REGISTRY}: privacy_unit"),
    "risk": ("Risk that was asked for", f"{_NIST}, 2.2"),
    "composition": (
        "Releases that are counted together",
        f"{_NIST}, 2.2 and 2.6",
        f"{_REGISTRY}: composition",
    ),
    "public": ("Public sets, whose patients nobody promises anything", f"{_NIST}, 2.4"),
    "declared": ("Declared, and shown by no record", f"{_NIST}, 2.6"),
    "odds": ("What the best attacker could do", f"{_NIST}, 2.1", _DOCUMENTS),
    "private_part": ("The runs with a finite epsilon alone", f"{_NIST}, 2.6"),
    # The middle: algorithms and correctness, utility, bias.
    "mechanisms": ("Algorithms", f"{_NIST}, 3.1 and 3.5", f"{_REGISTRY}: mechanisms"),
    "preparation": ("Preparation of data, and choice of settings", f"{_NIST}, 4.3", _TUNING),
    "correctness": ("Correctness, tested on this very training", f"{_NIST}, 2 (auditing) and 3.1"),
    "utility": ("Utility", f"{_NIST}, 3.2", f"{_REGISTRY}: utility"),
    "bias": ("Bias: who is served worse", f"{_NIST}, 3.3"),
    # The bottom: trust, access, side channels, exposure.
    "trust": ("Trust model", f"{_NIST}, 4.2", f"{_REGISTRY}: deployment_model"),
    "queries": ("Query model", f"{_NIST}, 4.1", f"{_REGISTRY}: access_type"),
    "access": ("Data security and access control", f"{_NIST}, 4.4"),
    "side_channels": ("Side channels", f"{_NIST}, 4.3"),
    "exposure": ("Exposure by collecting data", f"{_NIST}, 4.5", f"{_REGISTRY}: data_domain"),
    # The documents that the opinion wants to see.
    "design": (
        "Measures in the model's design: sources, preparation, training",
        f"{_EDPB}, model design",
    ),
    "tests": (
        "Tests against state-of-the-art attacks: what, when, how far, how they ended",
        f"{_EDPB}, 55 and documentation",
    ),
    "theory": ("Resistance to re-identification by theory", _DOCUMENTS),
    "residual": ("What is left as risk, told to those who use the model", _DOCUMENTS),
    "analysis": (
        "Who checked that these measures were carried out",
        f"{_EDPB}, model analysis",
    ),
    # What only the controller knows.
    "controller": ("Controller and contact", "GDPR, Art. 24", f"{_REGISTRY}: data_curators"),
    "purpose": ("Purpose", "GDPR, Art. 5(1)(b)", f"{_REGISTRY}: intended_use"),
    "recipients": ("Recipients, and how it reaches them", "GDPR, Art. 30", f"{_EDPB}, 46"),
    "legal_basis": ("Legal basis (also for health data)", "GDPR, Art. 6 and 9"),
    "dpia": ("Reference of the data-protection impact assessment", _DOCUMENTS),
    "dpo_advice": ("Advice of the data-protection officer", _DOCUMENTS),
    "informed": ("How patients were told", "GDPR, Art. 13 and 14"),
    "attackers": ("Attackers that are reasonably likely", f"{_EDPB}, 46"),
    "rationale": ("Why this epsilon and this unit", f"{_REGISTRY}: justification"),
    "retention": ("How long images and private/ are kept", "GDPR, Art. 5(1)(e)"),
    "finding": ("Finding: is the likelihood of identification insignificant?", _EDPB),
    "review": ("Date of the next review", f"{_EDPB}, 55"),
    "signature": ("Name, date, signature",),
}
#: Of these, what only the controller knows.
_CONTROLLER = (
    *("controller", "purpose", "recipients", "legal_basis", "dpia", "dpo_advice", "informed"),
    *("attackers", "rationale", "retention", "finding", "review", "signature"),
)


def known_line(key: str, says: str, source: str, *, not_run: str = "") -> Line:
    """A line of what is known.

    Args:
        key: what is asked for.
        says: what a record says; empty where there is none.
        source: the file or command that says so, or would.
        not_run: what would make the record, said in its place.
    """
    asks, *texts = _ASKED[key]
    return Line(
        key=key,
        asks=asks,
        texts=tuple(texts),
        state="stated" if says else "not run",
        says=says or not_run,
        source=source,
    )


def blank_line(key: str) -> Line:
    """A line for the controller to fill in."""
    asks, *texts = _ASKED[key]
    return Line(key=key, asks=asks, texts=tuple(texts), state="blank")


def controller_lines() -> tuple[Line, ...]:
    """What only the controller knows; each stays a marked blank."""
    return tuple(map(blank_line, _CONTROLLER))
