from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from synthdp.config.settings import Settings, dump_settings, load_settings, read_settings
from synthdp.config.typed_values import _alternatives, _annotation, _below, read_value, takes_of
from synthdp.errors import InputError
from synthdp.stages import STAGES

#: What version 1.1 of YAML, or a shell, would make something else of.
VERBATIM = (
    *("2024", "001", "6:30", "1_000", "1e-4", ".5", "0o17", "017", "0x1f", "NaN", ".inf", "+1"),
    *("yes", "no", "on", "off", "true", "False", "y", "2024-01-31", "12:30:45", "<<", "="),
    *("[0-9]+_(.*)", "[a", "{x", "*site", "&a", "!a", "%a", "@a", "`a", "|", ">", "- a", "? a"),
    *("site #2", "#2", "a: b", "a:", "a, b", "'", '"a" b', "a'b", "\\d+", "ünï", "a=b", "C:\\x"),
)


class Example(Settings):
    path: Path = Path()
    word: str = ""
    number: int | None = None
    maybe: Path | None = None
    pattern: Literal["none"] | str | None = None
    words: tuple[str, ...] = ()
    by_word: Mapping[str, tuple[str, ...]] = {}


def fields_of(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each dotted key of settings with its annotation, those of sections too."""
    for name, field in cls.model_fields.items():
        annotation = _annotation(field)
        yield f"{prefix}{name}", annotation
        for section in _alternatives(annotation):
            if isinstance(section, type) and issubclass(section, BaseModel):
                yield from fields_of(section, f"{prefix}{name}.")


STAGE_CLASSES = {name: stage.settings_class() for name, stage in STAGES.items()}


@pytest.mark.parametrize("stage", STAGE_CLASSES)
def test_text_of_every_stage_is_the_very_text_and_nothing_is_empty(stage: str) -> None:
    cls = STAGE_CLASSES[stage]
    texts = 0
    for key, annotation in fields_of(cls):
        takes = takes_of(annotation)
        with pytest.raises(InputError, match=f"^{key}: is empty"):
            read_value(cls, key, "")
        if takes.unset and not takes.none_word:
            assert read_value(cls, key, "none") is None
            for word in ("None", "NONE", "null", "~"):
                with pytest.raises(InputError, match=f"^{key}: .* write `none`, spelled so"):
                    read_value(cls, key, word)
        if takes.text:
            texts += 1
            for text in VERBATIM:
                if not (takes.containers and text[0] in "[{"):
                    assert read_value(cls, key, text) == text
        elif key.endswith("seed"):
            assert read_value(cls, key, "1_000") == "1_000"
            assert read_value(cls, key, "0x1f") == 31
            assert read_value(cls, key, "6:30") == "6:30"
            with pytest.raises(InputError, match=r"017 was octal in YAML 1\.1"):
                read_value(cls, key, "017")
    assert texts > 0


@pytest.mark.parametrize("stage", STAGE_CLASSES)
def test_every_seed_has_the_one_type_and_says_its_range(stage: str) -> None:
    cls = STAGE_CLASSES[stage]
    keys = [key for key, _ in fields_of(cls) if key.endswith(("seed", "seeds"))]
    # a study's settings of its stages are checked as these stages' own
    made = ("private_generator.train.", "private_generator.generate.")
    of_stages = ("pretrain.", "finetune.", *made)
    for key in (key for key in keys if not key.startswith(of_stages)):
        for seed in (-1, 2**63, 2**64, 10**98, -(10**98)):
            assert "a seed is a whole number from 0 to 9223372036854775807" in _told(cls, key, seed)
        for seed in (0, 2**63 - 1):
            assert "a seed is" not in _told(cls, key, seed)


def _told(cls: type[Any], key: str, seed: int) -> str:
    """What is wrong with settings of which there is nothing but a seed."""
    value = f"[{seed}]" if key.endswith("seeds") else str(seed)
    try:
        load_settings(cls, None, [f"{key}={value}"])
    except InputError as error:
        return "\n".join(line for line in str(error).splitlines() if f"{key}" in line)
    return ""


@pytest.mark.parametrize("text", VERBATIM)
def test_text_of_a_file_is_the_very_text_where_yaml_has_it_so(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    quotes = text.replace("'", "''")
    path.write_text(f"word: '{quotes}'\npath: '{quotes}'\nwords: ['{quotes}']\n")
    settings = load_settings(Example, path)
    assert (settings.word, settings.path, settings.words) == (text, Path(text), (text,))
    path.write_text(dump_settings(settings))
    assert load_settings(Example, path) == settings


@pytest.mark.parametrize("text", VERBATIM[:19])
def test_text_of_a_file_needs_no_quotes(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        f"word: {text}\npath: {text}\nwords: [{text}, x]\nby_word: {{{text}: [{text}]}}\n"
    )
    settings = load_settings(Example, path)
    assert (settings.word, settings.path) == (text, Path(text))
    assert (settings.words, settings.by_word) == ((text, "x"), {text: (text,)})


def test_values_of_other_kinds_are_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for written, number in (("0o17", 15), ("0x1F", 31), ("1e3", 1000), ("+3", 3), ("1_000", 1000)):
        path.write_text(f"number: {written}\n")
        assert load_settings(Example, path).number == number
        assert load_settings(Example, None, [f"number={written}"]).number == number
    for written in ("6:30", "017", "yes", "2024-01-01", "0b11"):
        path.write_text(f"number: {written}\n")
        with pytest.raises(InputError, match=r"number|octal"):
            load_settings(Example, path)
        with pytest.raises(InputError, match="number"):
            load_settings(Example, None, [f"number={written}"])


@pytest.mark.parametrize("key", ["path", "word", "maybe"])
def test_a_path_that_yaml_cuts_at_a_comment_is_refused(key: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{key}: /data/site #2\n")
    with pytest.raises(InputError, match=f"{key}: '/data/site' is followed by '#2', which YAML"):
        load_settings(Example, path)
    path.write_text(f"{key}: /data/site   # the second one\n")
    assert str(read_settings(Example, path)[key]) == "/data/site"
    path.write_text(f"{key}: '/data/site #2' #2\n")
    assert str(getattr(load_settings(Example, path), key)) == "/data/site #2"


def test_words_for_nothing_are_no_text(tmp_path: Path) -> None:
    for key in ("path", "word", "maybe"):
        for word in ("None", "null", "~", "undefined"):
            with pytest.raises(InputError, match=f"^{key}: '{word}' is no value here"):
                load_settings(Example, None, [f"{key}={word}"])
    with pytest.raises(InputError, match=r"^path: 'none' is no value here"):
        load_settings(Example, None, ["path=none"])
    assert load_settings(Example, None, ["word=none", "pattern=none", "maybe=none"]) == Example(
        word="none", pattern="none"
    )
    path = tmp_path / "x.yaml"
    kept = Example(word="None", path=Path("null"), maybe=Path("~x"[1:]))
    path.write_text(dump_settings(kept))
    assert load_settings(Example, path) == kept


def test_a_list_of_text_holds_the_very_texts() -> None:
    assert load_settings(Example, None, ["words=[001, yes, 6:30]"]).words == ("001", "yes", "6:30")
    assert read_value(Example, "words", "a, b") == "a, b"
    with pytest.raises(InputError, match="words"):
        load_settings(Example, None, ["words=[a #1, b]"])


def test_keys_below_a_study_s_stages_have_the_types_of_these_stages() -> None:
    cls = STAGE_CLASSES["study"]
    assert read_value(cls, "finetune.init", "001") == "001"
    assert read_value(cls, "finetune.head.lr_times_steps", "none") is None
    with pytest.raises(InputError, match=r"finetune\.where: 'None' is no value here"):
        read_value(cls, "finetune.where", "None")
    assert read_value(cls, "pretrain.epochs", "3") == 3
    assert takes_of(_below(cls, "data")).text


def test_a_text_that_begins_with_a_brace_is_one_where_no_mapping_is_taken() -> None:
    """Templates of file names do, and no shell could quote them for YAML."""
    assert read_value(Example, "words", "{image_id}.png") == "{image_id}.png"
    assert read_value(Example, "by_word", "{a: [b]}") == {"a": ["b"]}
