from typing import Any

import pytest

from synthdp.cli import EXIT_DONE, main
from synthdp.study.record import SetFacts
from synthdp.study.report.sections.next_steps import next_steps

DRAWN: dict[str, Any] = {
    **{"name": "drawn", "kind": "phantom", "stands_for_patients": True, "roles": ("training",)},
    **{"size_px": 32, "targets": ("malignant",), "unit": "patient"},
}


@pytest.mark.parametrize(
    ("about", "images", "own"),
    [
        ({}, "mammograms", "--images my-patches"),
        ({"depth": 16, "targets": ("lesion",)}, "scans", "--images my-scans --volumes"),
        (
            {"targets": ("effusion", "edema")},
            "radiographs",
            "--images my-images --table labels.csv --target effusion,edema",
        ),
    ],
)
def test_a_hospital_is_shown_the_way_of_such_images(
    about: dict[str, Any], images: str, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = next_steps([SetFacts(**DRAWN | {"roles": ("scored",)}), SetFacts(**DRAWN | about)])
    assert steps is not None
    assert steps.images == images
    assert any(line.startswith(f"synthdp init mine {own} ") for line in steps.commands)
    # a generator of mammograms is no start for others
    assert any("pretrained:" in line for line in steps.commands) == (images == "mammograms")
    for line in steps.commands:
        with pytest.raises(SystemExit, match=str(EXIT_DONE)):
            main([*line.partition("    #")[0].split()[1:], "--help"])
    capsys.readouterr()


@pytest.mark.parametrize(
    "about", [{"kind": "real"}, {"stands_for_patients": False}, {"roles": ("scored",)}]
)
def test_a_study_of_patients_has_no_such_section(about: dict[str, Any]) -> None:
    assert next_steps([SetFacts(**DRAWN | about)]) is None
