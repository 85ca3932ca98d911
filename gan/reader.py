"""The reader stages: a page for blinded readers, and what their answers say."""

from pathlib import Path

from gan.quality.reading.answers import read_readings
from gan.quality.reading.key import KEY_FILE, PAGE_FILE, read_key
from gan.quality.reading.kit import make_kit, refuse_unasked
from gan.quality.reading.page import reader_page, scores_page
from gan.quality.reading.scores import score_readings
from gan.quality.sets import open_real, open_synthetic
from gan.settings.reader import ReaderScoreSettings, ReaderSettings
from synthdp.config.settings import dump_settings
from synthdp.runs.folder import is_written
from synthdp.runs.inputs import named_inputs, read_inputs, write_inputs
from synthdp.storage.files import atomic_folder, write_atomic, write_json

CONFIG_FILE, SCORES_FILE, SCORES_PAGE = "config.yaml", "scores.json", "scores.html"


def run_reader(settings: ReaderSettings) -> Path:
    """Write the page of a blinded reading and its key, or return at once.

    `reader.html` is for readers. `private/key.json` says what is real, and stays.

    Raises:
        InputError: when a set can't be used, or its images may not be shown; when it has too few;
            when one is unreadable, or `out` holds something else.
        RunError: when the disk is full.
    """
    if is_written(settings.out, settings, last=PAGE_FILE, what="a reader's page"):
        return settings.out
    inputs = read_inputs(named_inputs(settings))
    real = open_real(settings.real)
    synthetic = open_synthetic(settings.synthetic, real)
    if not settings.yes_show_patients:
        refuse_unasked(real, synthetic)
    with atomic_folder(settings.out, closed=True) as folder:
        kit = make_kit(
            real,
            synthetic,
            target=settings.target,
            split=settings.split,
            per_kind=settings.per_kind,
            size_px=settings.size_px,
            seed=settings.seed,
        )
        write_atomic(folder / CONFIG_FILE, dump_settings(settings))
        write_inputs(folder, inputs)
        write_json(folder / KEY_FILE, kit.key.model_dump(mode="json"))
        write_atomic(
            folder / PAGE_FILE, reader_page(kit.key.kit, kit.key.target, kit.shown, kit.holds)
        )
    return settings.out


def run_reader_score(settings: ReaderScoreSettings) -> Path:
    """Score readers' files against the key of their kit, as JSON and as a page, or return at once.

    Figures of real images are exact functions of patients, where the kit showed some.

    Raises:
        InputError: when the kit has no key, a file is of another kit, repeats or misses answers or
            has impossible ones, or `out` holds something else.
        RunError: when the disk is full.
    """
    if is_written(settings.out, settings, last=SCORES_FILE, what="readers' scores"):
        return settings.out
    inputs = read_inputs(named_inputs(settings))
    key = read_key(settings.kit)
    readings = read_readings(settings.answers, key, allow_missing=settings.allow_missing)
    with atomic_folder(settings.out, closed=True) as folder:
        scores = score_readings(key, readings, redraws=settings.redraws, seed=settings.seed)
        write_atomic(folder / CONFIG_FILE, dump_settings(settings))
        write_inputs(folder, inputs)
        write_json(folder / SCORES_FILE, scores.model_dump(mode="json"))
        write_atomic(folder / SCORES_PAGE, scores_page(scores))
    return settings.out
