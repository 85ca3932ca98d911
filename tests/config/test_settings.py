from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import Field

from synthdp.config.settings import (
    Settings,
    apply_overrides,
    dump_settings,
    load_settings,
    read_json_as,
    read_settings,
    validate_settings,
)
from synthdp.config.yaml_core import MAX_SETTINGS_BYTES
from synthdp.errors import InputError
from synthdp.networks.settings import BackboneSettings
from synthdp.privacy.settings import PrivacySettings
from synthdp.stages import STAGES


class Part(Settings):
    deep: int = 1


class Example(Settings):
    data: Path
    seed: int = Field(default=0, ge=0)
    flag: bool = False
    anything: Any = None
    parts: tuple[Part, ...] = ()
    privacy: PrivacySettings = PrivacySettings()
    backbone: BackboneSettings = BackboneSettings()


def refused(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(InputError) as error:
        load_settings(Example, path, overrides)
    return str(error.value)


def test_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("data: images\nprivacy:\n  epsilon: 6\n  delta: 1e-5\n")
    settings = load_settings(Example, path, ["privacy.epsilon=1e1", "backbone.name=vit_tiny"])
    assert settings.data == Path("images")
    assert settings.privacy == PrivacySettings(epsilon=10, delta=1e-5)
    assert settings.backbone.name == "vit_tiny"


def test_settings_are_frozen() -> None:
    settings = load_settings(Example, None, ["data=x"])
    with pytest.raises(ValueError, match="frozen"):
        settings.seed = 1  # type: ignore[misc]


def test_none_is_training_without_privacy() -> None:
    settings = load_settings(Example, None, ["data=x", "privacy.epsilon=none"])
    assert settings.privacy.epsilon is None


@pytest.mark.parametrize("word", ["None", "NONE", "null", "Null", "~", "nil", "undefined"])
def test_no_other_word_is_training_without_privacy(word: str, tmp_path: Path) -> None:
    assert "privacy.epsilon: " in refused("data=x", f"privacy.epsilon={word}")
    path = tmp_path / "x.yaml"
    path.write_text(f"data: x\nprivacy: {{epsilon: {word}}}\n")
    if word == "null":  # what the config.yaml of a run holds
        assert load_settings(Example, path).privacy.epsilon is None
    else:
        assert "  privacy.epsilon: " in refused(path=path)


@pytest.mark.parametrize("word", ["None", "NONE", "null", "Null", "~"])
def test_no_other_word_is_training_without_privacy_inside_a_list(word: str, tmp_path: Path) -> None:
    study = STAGES["study"].settings_class()
    for override in (f"epsilons=[6, {word}]", f"epsilons=[{word}]"):
        with pytest.raises(InputError, match=f"epsilons.[01]: '{word}' is no value here"):
            load_settings(study, None, [override])
    assert "privacy.epsilon: " in refused("data=x", f"privacy={{epsilon: {word}}}")
    path = tmp_path / "x.yaml"
    path.write_text(f"epsilons: [6, {word}]\n")
    if word != "null":  # what the config.yaml of a study holds
        with pytest.raises(InputError, match=f"epsilons.1: '{word}' is no value here"):
            read_settings(study, path)


@pytest.mark.parametrize("value", ["", " ", "\u00a0", "\t"])
def test_an_unset_variable_of_the_shell_is_no_value(value: str) -> None:
    text = refused(f"data={value}", f"privacy.epsilon={value}", f"seed={value}")
    for key in ("privacy.epsilon", "seed", "data"):
        assert f"{key}: " in text
    assert "is empty, as an unset variable leaves it; write `none` to leave it unset" in text


def test_an_empty_value_of_a_file_is_no_value(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("data:\nseed:\nprivacy: {epsilon: , delta: 1e-5}\nparts:\n")
    lines = refused(path=tmp_path / "x.yaml").splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        "data",
        "seed",
        "privacy.epsilon",
        "parts",
    ]


def test_every_error_at_once_with_did_you_mean() -> None:
    text = refused("sed=3", "privacy.epsilonn=6", "privacy.delta=2", "backbone.nam=x", "seed=-1")
    lines = text.splitlines()
    assert lines[0] == "settings:"
    assert "  sed: unknown key, did you mean seed?" in lines
    assert "  privacy.epsilonn: unknown key, did you mean epsilon?" in lines
    assert "  backbone.nam: unknown key, did you mean name?" in lines
    assert any("privacy.delta" in line and "less than 1" in line for line in lines)
    assert any("data: missing; set it" in line for line in lines)
    assert any("seed" in line and "(got -1)" in line for line in lines)


def test_a_key_that_a_section_has_is_named_with_it() -> None:
    lines = refused("data=x", "delta=1e-5", "name=y").splitlines()
    assert "  delta: unknown key, did you mean privacy.delta?" in lines
    assert "  name: unknown key, did you mean backbone.name?" in lines


def test_an_unlike_key_lists_the_known_ones() -> None:
    text = refused("data=x", "privacy.zzz=1")
    assert "privacy.zzz: unknown key (known: delta, epsilon, fixed_noise_key, images_per_" in text


def test_an_unknown_key_in_a_list_is_placed() -> None:
    assert "parts.1.dep: unknown key, did you mean deep?" in refused(
        "data=x", "parts=[{deep: 1}, {dep: 2}]"
    )


@pytest.mark.parametrize("epsilon", ["0", "-1", ".inf", ".nan", "abc", "[1]", "true", "off"])
def test_an_epsilon_that_is_none_is_refused(epsilon: str) -> None:
    assert "privacy.epsilon: " in refused("data=x", f"privacy.epsilon={epsilon}")


def test_true_is_no_number_but_a_flag() -> None:
    assert "seed: true and false" in refused("data=x", "seed=true")
    settings = load_settings(Example, None, ["data=x", "flag=true", "anything=true"])
    assert (settings.flag, settings.anything) == (True, True)


def test_true_is_no_number_in_a_list_or_of_numpy() -> None:
    study = STAGES["study"].settings_class()
    for key in ("epsilons", "seeds"):
        with pytest.raises(InputError, match=f"{key}: true and false are no value"):
            load_settings(study, None, [f"{key}=[true]"])
    with pytest.raises(ValueError, match="true and false are no value"):
        PrivacySettings(epsilon=np.bool_(True))


@pytest.mark.parametrize(("path", "words"), [("", "is empty"), ("a\0b", "a character NUL")])
def test_a_path_that_python_gives_is_one(path: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Example(data=path)


@pytest.mark.parametrize("word", ["yes", "on", "y", "no", "off", "0x", "TRUE!"])
def test_a_truth_value_is_true_or_false(word: str, tmp_path: Path) -> None:
    assert "flag: write true or false" in refused("data=x", f"flag={word}")
    (tmp_path / "x.yaml").write_text(f"data: x\nflag: {word}\n")
    assert "flag: write true or false" in refused(path=tmp_path / "x.yaml")


@pytest.mark.parametrize("override", ["seed", "=3", ""])
def test_an_override_without_key_or_value(override: str) -> None:
    assert "an override is written key=value" in refused("data=x", override)


def test_an_override_through_a_value() -> None:
    with pytest.raises(InputError, match=r"seed\.a: seed is a single value"):
        apply_overrides({"seed": 1}, ["seed.a=2"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["seed=1", "seed=1"], "seed: given 2 times; keep one"),
        (["out=a", "seed=2", "out=b"], "out: given 2 times; keep one"),
        (
            ["privacy.epsilon=3", "privacy={delta: 1e-5}"],
            "privacy.epsilon: privacy is given as a whole too; keep one",
        ),
        (["seed", "=", "3"], "without blanks around the ="),
        (["seed = 3"], "without blanks around the ="),
        (["seed =3"], "without blanks around the ="),
        (["seed= 3"], "seed: ' 3' begins or ends with a blank"),
        (["seed=3\r"], "seed: ends in a carriage return"),
        (["seed=3\u00a0"], "seed: '3\\xa0' begins or ends with a blank"),
        (["\u2013seed=3"], "begins with a typographic dash"),
        (["\u2014out"], "begins with a typographic dash"),
        (["data=\u201ca b\u201d"], "stands in typographic quotes"),
        (["data='a b'"], "stands in quotes that the shell was to take away"),
        (["data=a\nb"], "holds a control character"),
    ],
)
def test_slips_of_a_shell_are_told(overrides: list[str], words: str) -> None:
    with pytest.raises(InputError) as error:
        apply_overrides({}, overrides, Example)
    assert words in str(error.value)


def test_an_override_drops_no_setting_of_the_file_unseen(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("data: x\nprivacy: {epsilon: 6, delta: 1e-5}\n")
    text = refused("privacy={delta: 1e-6}", path=path)
    assert "privacy: would drop privacy.epsilon of the settings file" in text
    both = load_settings(Example, path, ["privacy={delta: 1e-6, epsilon: none}"])
    assert both.privacy == PrivacySettings(delta=1e-6)
    assert load_settings(Example, path, ["privacy.delta=1e-6"]).privacy.epsilon == 6


@pytest.mark.parametrize(
    "path",
    ["~", "~/x", "~ann/x", "$HOME/x", "a/${SITE}/b", "file:///x", "s3://bucket/x", "http://x"],
)
def test_a_path_that_nothing_expands_is_refused(path: str, tmp_path: Path) -> None:
    assert "data: " in refused(f"data={path}")
    (tmp_path / "x.yaml").write_text(f"data: {path}\n")
    assert "data: " in refused(path=tmp_path / "x.yaml")


@pytest.mark.parametrize("path", ["a~b", "x/~y", "a$1", "100$", "x/~", "pretrained:NAME", "C:/x"])
def test_a_path_that_only_looks_so_is_taken(path: str) -> None:
    assert load_settings(Example, None, [f"data={path}"]).data == Path(path)


def test_overrides_leave_their_source_alone() -> None:
    values = {"privacy": {"epsilon": 1}}
    assert apply_overrides(values, ["privacy.epsilon=2"]) == {"privacy": {"epsilon": 2}}
    assert values == {"privacy": {"epsilon": 1}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"data: a\ndata: b\n", r"line 2: the key 'data' stands twice"),
        (b"privacy:\n  epsilon: 1\n  epsilon: 60\n", r"line 3: the key 'epsilon' stands twice"),
        ("data: café".encode("latin-1"), "not UTF-8 text"),
        (b"[" * 1000, "nested too deeply"),
        (b"- data\n", "`key: value` lines"),
        (b"data: x\n\tseed: 3\n", "line 2: found character"),
        (b"data: !!python/object/apply:os.getcwd []\n", "line 1: could not determine"),
        (b"#" * (MAX_SETTINGS_BYTES + 1), "larger than"),
    ],
    ids=["twice", "twice-below", "latin", "deep", "list", "tab", "python", "large"],
)
def test_a_file_that_holds_no_settings(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        load_settings(Example, path)
    assert str(path) in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no such settings file" in refused(path=tmp_path / "none.yaml")


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# nothing\n")
    settings = load_settings(Example, tmp_path / "x.yaml", ["data=x"])
    assert settings == Example(data=Path("x"))


def test_dumped_settings_read_back(tmp_path: Path) -> None:
    settings = Example(
        data=Path("ünï/1e-4"),
        parts=(Part(deep=2), Part()),
        privacy=PrivacySettings(epsilon=1e-3, delta=1e-9, population=600),
    )
    (tmp_path / "x.yaml").write_text(dump_settings(settings), encoding="utf-8")
    assert load_settings(Example, tmp_path / "x.yaml") == settings


def test_sha256_has_its_form() -> None:
    assert "backbone.sha256" in refused("data=x", "backbone.sha256=abc")


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 27))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "aliases make more than 131,072 values"),
        ("a: &a {x: 1}\nb:\n  <<: [" + "*a, " * 200_000 + "*a]", "larger than|aliases make more"),
        ("a: &a [*a]", "an alias stands inside what it names"),
        ("a: &a {b: *a}", "an alias stands inside what it names"),
        ("a: !!timestamp 2026-13-45", "such as a date that no calendar has"),
        ("a: !!int abc", "not of the kind"),
        ("a: !!bool maybe", "not of the kind"),
        ("a: !!timestamp x", "not of the kind"),
        ("a: !!binary abc", "failed to decode"),
        ("a: " + "1" * 5000, "more than 100 digits"),
        ("a: !!int 1" + ":59" * 50, "more than 100 digits"),
        ('a: "x\\0y"', "a character NUL"),
        ("? [1]\n: x", "a key is a list or a mapping"),
        ("a: 1\na: 2", "the key 'a' stands twice"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ],
)
def test_yaml_that_attacks_its_reader_is_one_clear_error(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(InputError, match=problem):
        load_settings(PrivacySettings, tmp_path / "x.yaml")


def test_an_alias_that_is_small_is_followed(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("delta: &d 1.0e-5\nepsilon: *d\n")
    assert load_settings(PrivacySettings, tmp_path / "x.yaml").epsilon == 1e-5


@pytest.mark.parametrize("start", ["http://", "s3://", "tcp:/"])
def test_an_address_is_told_without_user_and_password(start: str) -> None:
    text = refused(f"data={start}someone:hunter2@host/x")
    assert f"{start}...@host/x" in text
    assert "hunter2" not in text
    assert "someone" not in text


def test_errors_are_cut_and_hold_no_control_characters() -> None:
    values = {f"key\x1b[31m{index}\n": "x" for index in range(1000)} | {"unit": "y" * 10_000}
    with pytest.raises(InputError) as caught:
        validate_settings(PrivacySettings, values, where="here")
    lines = str(caught.value).splitlines()
    assert len(lines) == 52
    assert lines[-1] == "  ... and 951 more"
    assert max(map(len, lines)) < 700
    assert "\x1b" not in str(caught.value)


def test_json_is_read_as_a_model_with_every_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"epsilon": "much", "unit": "clinic"}')
    with pytest.raises(InputError, match=rf"{tmp_path.name}/x\.json:\n  epsilon: .*\n  unit: "):
        read_json_as(PrivacySettings, tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(InputError, match="valid dictionary"):
        read_json_as(PrivacySettings, tmp_path / "x.json")
