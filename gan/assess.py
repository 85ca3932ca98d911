"""The assess stage: how close a synthetic set is to a real one, and whether it copies patients."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from gan.quality.comparisons import COMPARISON_WORDS
from gan.quality.disclosure import disclosure_figures, disclosure_words
from gan.quality.figures import (
    USEFULNESS,
    coverage_figures,
    detector_figures,
    distance_figures,
    inception_figures,
    label_figures,
    spectrum_figures,
    support_figures,
)
from gan.quality.membership import membership_figures
from gan.quality.memorisation import (
    NEAR_COPIES,
    SetCloseness,
    closeness_to_train,
    copy_figures,
    draw_closest_pairs,
    nearest_table,
)
from gan.quality.page import assessment_page
from gan.quality.radiomics.figures import radiomics_figures, texture_words
from gan.quality.sets import PIXELS, MeasuredSet, Sets, Subject, measure_sets
from gan.quality.subgroups import group_words, subgroup_figures
from gan.settings.assess import AssessSettings, FeatureSpace
from synthdp.config.settings import dump_settings
from synthdp.data.looks.sameness import sameness_of
from synthdp.data.looks.spectrum import spectrum_error
from synthdp.evaluation.assessment import (
    QUALITY_FILE,
    AssessedSet,
    Assessment,
    FeatureFacts,
    Figure,
    Section,
    Value,
)
from synthdp.machine.progress import progress
from synthdp.networks.public.weight_files import HUB
from synthdp.runs.folder import is_written
from synthdp.runs.inputs import named_inputs, read_inputs, write_inputs
from synthdp.storage.files import atomic_folder, write_atomic, write_json

CONFIG_FILE, PAGE_FILE, PRIVATE = "config.yaml", "quality.html", "private"
SECTIONS = get_args(Section)
#: The AUC of an attack that knows nothing.
CHANCE = 0.5


def run_assess(settings: AssessSettings) -> Path:
    """Judge a synthetic set and write its figures, a page and the closest pairs, or return at once.

    Nothing is fitted on val. All figures are exact functions of the patients, outside every
    promise; `private/` holds patients' images, and nothing of it may leave.

    Raises:
        InputError: when a set cannot be used, weights do not fit, an image is unreadable, or `out`
            holds something else.
        RunError: when features are not finite, or the disk is full.
    """
    if is_written(settings.out, settings, last=QUALITY_FILE, what="an assessment"):
        return settings.out
    inputs = read_inputs(named_inputs(settings))  # before they are read, so that an edit shows
    # first, so that a taken `out` is refused at once
    with atomic_folder(settings.out, closed=True) as folder:
        sets = measure_sets(settings)
        quality = list(_quality_figures(settings, sets))
        closeness = closeness_to_train(sets)
        _write_closest(folder / PRIVATE, sets, closeness)
        figures = [
            *quality,
            *copy_figures(closeness),
            *membership_figures(sets),
            *disclosure_figures(sets, settings.attributes),
        ]
        figures.sort(key=lambda figure: SECTIONS.index(figure.section))
        assessment = _assessment(settings, sets, figures)
        write_atomic(folder / CONFIG_FILE, dump_settings(settings))
        write_inputs(folder, inputs)
        write_json(folder / QUALITY_FILE, assessment.model_dump(mode="json"))
        write_atomic(folder / PAGE_FILE, assessment_page(assessment, sets))
    return settings.out


def _quality_figures(settings: AssessSettings, sets: Sets) -> Iterator[Figure]:
    for space in progress(list(sets.networks.extractors), what="figures in each feature space"):
        yield from distance_figures(sets, space)
        yield from coverage_figures(sets, space, settings.neighbours)
        yield from support_figures(sets, space, settings.neighbours)
        yield from detector_figures(sets, space)
        yield from label_figures(sets, space)
        yield from subgroup_figures(sets, space, settings.neighbours, settings.attributes)
    if settings.inception is not None:
        yield from inception_figures(sets)
    yield from radiomics_figures(sets, settings.radiomics_n)
    yield from spectrum_figures(sets)


def _write_closest(private: Path, sets: Sets, closeness: Mapping[Subject, SetCloseness]) -> None:
    """Write the closest pairs of each made-up set, as picture and table, for the house alone."""
    private.mkdir(mode=0o700)
    for subject, made_up in sets.made_up.items():
        ending = "" if subject == "synthetic" else f"_{subject}"
        picture = draw_closest_pairs(closeness[subject], made_up, sets.train)
        write_atomic(private / f"closest_pairs{ending}.png", picture)
        table = nearest_table(closeness[subject], made_up, sets.train)
        write_atomic(private / f"nearest{ending}.csv", table)


def _assessment(settings: AssessSettings, sets: Sets, figures: Sequence[Figure]) -> Assessment:
    return Assessment(
        promise=_promise(sets.train),
        findings=_result_sentences(settings.features, figures, sets),
        info=sets.synthetic.dataset.info,
        synthetic=_assessed(sets.synthetic),
        baseline=None if sets.baseline is None else _assessed(sets.baseline),
        real=_assessed(sets.train),
        held_out=None if sets.held_out is None else _assessed(sets.held_out),
        features=tuple(_space_facts(sets, space) for space in settings.features),
        figures=tuple(figures),
        date=datetime.now(UTC).date().isoformat(),
    )


def _promise(real: MeasuredSet) -> str:
    info = real.dataset.info
    if not info.protects_patients:
        if info.kind == "public":
            return (
                f"{info.name} is public: these figures are exact functions of its patients, whom "
                "nothing protects."
            )
        return f"{info.name} holds no patients, so these figures tell nothing of any."
    words = (
        f"These figures are exact functions of the patients of {info.name}: no noise was added, so "
        "they stand outside every promise. Keep them in the house, or count them as a disclosure."
    )
    if info.unit == "image":
        words += " Its patients are not known: each image stands for one, so copies may look rarer."
    return words


def _assessed(measured: MeasuredSet) -> AssessedSet:
    info = measured.dataset.info
    return AssessedSet(
        name=info.name,
        kind=info.kind,
        size_px=info.size_px,
        images=measured.n_images,
        used=len(measured),
        duplicates=measured.duplicates,
        label_conflicts=measured.label_conflicts,
    )


def _space_facts(sets: Sets, space: FeatureSpace) -> FeatureFacts:
    low = sets.networks.extractors[space.label].in_bfloat16
    weights = space.sha256 or "" if space.weights is not None else "random start"
    return FeatureFacts(
        label=space.label,
        network=space.name,
        size_px=space.size_px,
        precision="bfloat16" if low else "float32",
        weights="hub" if space.weights == HUB else weights,
    )


# The result in words: a few sentences that hold for the numbers.


def _result_sentences(
    spaces: Sequence[FeatureSpace], figures: Sequence[Figure], sets: Sets
) -> tuple[str, ...]:
    """Distance, labels, groups, copies, membership, disclosure, texture, spectrum: a sentence each.

    Of several feature spaces the first speaks.
    """
    sentences = (
        _random_words(spaces),
        *(f"Warning: {one}." for one in sameness_of(sets.synthetic.dataset).findings),
        _distance_words(figures),
        _label_words(figures),
        group_words(figures),
        _copy_words(figures),
        _membership_words(figures),
        disclosure_words(figures),
        texture_words(figures),
        _spectrum_words(sets),
    )
    return tuple(sentence for sentence in sentences if sentence)


def _random_words(spaces: Sequence[FeatureSpace]) -> str:
    if not (random := [space.label for space in spaces if space.weights is None]):
        return ""
    return (
        f"Warning: figures in {' and '.join(random)} features are for trying things out, since a "
        "network without weights starts at random and sees little; name weights (hub lets timm "
        "download them, once) before a set is judged by them."
    )


def _distance_words(figures: Sequence[Figure]) -> str:
    halves = [
        f for f in figures if f.section == "Distance" and f.comparison == COMPARISON_WORDS["halves"]
    ]
    if not halves or halves[0].synthetic.value is None or halves[0].real is None:
        return ""
    figure, real = halves[0], halves[0].real
    beside = f" ({_shown(figure, figure.baseline)} for the baseline)" if figure.baseline else ""
    return (
        f"{figure.measure} is {_shown(figure, figure.synthetic)}{beside} at n = "
        f"{figure.synthetic.n[0]}, where two halves of the real train patients give "
        f"{_shown(figure, real)}."
    )


def _label_words(figures: Sequence[Figure]) -> str:
    labels = [f for f in figures if f.section == "Labels" and f.measure.startswith(USEFULNESS)]
    of_first = [f for f in labels if f.features == labels[0].features]
    known = [
        (f.synthetic.value, f.real.value)
        for f in of_first
        if f.real is not None and f.synthetic.value is not None and f.real.value is not None
    ]
    if not known:
        return ""
    figure, features = of_first[0], of_first[0].features
    if len(of_first) > 1:
        ours, theirs = (sum(values) / len(known) for values in zip(*known, strict=True))
        return (
            f"Classifiers trained on it, one for each finding, have a mean AUROC of "
            f"{ours:.{figure.digits}f} on real val patients ({theirs:.{figure.digits}f} when "
            f"trained on real), over the {len(known)} of {len(of_first)} findings of which both "
            f"classes are known; {features} features."
        )
    return (
        f"A classifier trained on it has AUROC {_shown(figure, figure.synthetic)} on real val "
        f"patients ({_shown(figure, figure.real)} when trained on real; {features} features)."
    )


def _copy_words(figures: Sequence[Figure]) -> str:
    synthetic = next(f for f in figures if f.measure == NEAR_COPIES).synthetic
    count = int(synthetic.value or 0)
    if not count:
        return (
            f"None of {synthetic.n[0]} images is a near copy of a train patient; the closest "
            "pairs stand in private/closest_pairs.png, to be looked at before a release."
        )
    return (
        f"{count} of {synthetic.n[0]} images are near copies of train patients by distance: "
        "private/nearest.csv names them and private/closest_pairs.png shows the closest. Don't "
        "release this set unless a look at each of them says otherwise."
    )


def _membership_words(figures: Sequence[Figure]) -> str:
    attacks = [
        f for f in figures if f.section == "Membership" and f.measure.endswith("AUC")
        if f.synthetic.value is not None
    ]  # fmt: skip
    if not attacks:
        return "The real set has no val split, so nothing is known of membership."
    shown = next((f for f in attacks if f.features != PIXELS), attacks[0])
    successful = [f for f in attacks if (f.synthetic.ci_low or 0) > CHANCE]
    first = (
        f"The membership attack has AUC {_shown(shown, shown.synthetic)} "
        f"({_interval(shown.synthetic)}) in {shown.features} features"
    )
    if not successful:
        return f"{first}; none of {len(attacks)} attacks tells members from others."
    where = ", ".join(
        dict.fromkeys(f"{f.features} ({f.comparison.split(';')[0]})" for f in successful)
    )
    return (
        f"{first}; {len(successful)} of {len(attacks)} attacks tell members from others: {where}."
    )


def _spectrum_words(sets: Sets) -> str:
    error = spectrum_error(sets.train.powers, sets.synthetic.powers, sets.size_px)
    return (
        f"Its power spectrum is farthest from the real one, {error.dex:.2f} dex, at "
        f"{error.low:g} to {error.high:g} {error.line} cycles an image side."
    )


def _shown(figure: Figure, value: Value | None) -> str:
    return "none" if value is None or value.value is None else f"{value.value:.{figure.digits}f}"


def _interval(value: Value) -> str:
    if value.ci_low is None or value.ci_high is None:
        return "no interval"
    return f"{value.ci_low:.2f} to {value.ci_high:.2f}"
