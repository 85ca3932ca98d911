"""The README that `synthdp init` writes: which commands to run, in order, and what each file is."""

from synthdp.data.looks.pose import shows_chests
from synthdp.init.answers import Answers
from synthdp.init.kinds import Kind, selects

_HEAD = """\
# {name}

Settings that `synthdp init` wrote for the images in `data.yaml`. Run the commands in this folder,
in this order; each goes on where it stopped, and `--dry-run` says what a stage would do.

"""
_PATCHES = """\
```sh
synthdp data import data.yaml                  # your images -> data/{name}
synthdp data check data/{name}
synthdp data phantoms --out data/phantoms      # drawings: public, and free of privacy cost
{pool}synthdp train-gan generator.yaml               # a generator with a guarantee{minutes}
synthdp generate runs/private-generator --out data/private-synthetic --per-class 300
synthdp assess data/private-synthetic assess.yaml --real data/{name} --out assessed
synthdp study study.yaml                       # figures and tables: studies/{name}/report.html
synthdp report studies/{name} --format latex --out table.tex
synthdp finetune classifier.yaml               # one classifier, to be given away
synthdp privacy runs/classifier                # what it promises, in words
synthdp privacy --release runs/classifier to-share/classifier
synthdp predict to-share/classifier NEW-IMAGES --out scores.csv
synthdp privacy --release data/private-synthetic to-share/private-synthetic --record data/{name}
synthdp privacy data/{name}                    # the record: what left, and what it promises in all
```

The assessment shows patients beside images that are close to them: it stays in the house. What is
released goes on the record of `data/{name}`, a synthetic set by `--record`; the classifier and the
synthetic set are two releases of the same patients, and count together.

| file | what it is |
| --- | --- |
| `data.yaml` | how images, classes and patients are found |
| `generator.yaml` | the private generator (epsilon 3 of what the study asks for in all) |
{pool_row}| `study.yaml` | what a guarantee costs, and whether synthetic images make up for it |
| `classifier.yaml` | the classifier that you release (epsilon 6) |
| `assess.yaml` | how synthetic images are held against your patients |

{generator}

Class 1 is `{targets}`."""
#: Where a generator selects: the command for its pool, its row, and what it does.
_POOL = """\
synthdp data phantoms pool.yaml                # more of them, to select from: 2 minutes
"""
_POOL_ROW = "| `pool.yaml` | the phantoms that the generator selects from |\n"
_SELECTS = """\
The generator keeps those phantoms of the pool that one noisy release of your patients' mean
features asks for: it shows drawings, weighted towards your patients, and no patient. With
`conditions: [view, breast_density]` in `generator.yaml` its images are labelled with these too,
as the drawings are; of your patients nothing more is read."""
_MOVES = """\
Phantoms are drawn of malignant masses alone, and your target is another: so the generator is moved
towards your patients along one noisy release of their mean features, and keeps little variety.
Look at its pictures before you use them. Where it is malignancy of masses under another name, call
the table's column (or the folder) `malignant` and run `synthdp init` again: then phantoms serve."""
_FINDINGS = """\
```sh
synthdp data import data.yaml                  # your images -> data/{name}
synthdp data check data/{name}
synthdp data phantoms {subject}--out data/phantoms --patients 300  # drawings, free of privacy cost
synthdp study study.yaml                       # figures and tables: studies/{name}/report.html
synthdp report studies/{name} --format latex --out table.tex
synthdp finetune classifier.yaml               # one classifier, to be given away
synthdp evaluate runs/classifier data/{name} --split val --out scores
synthdp privacy runs/classifier                # what it promises, in words
synthdp privacy --release runs/classifier to-share/classifier
synthdp predict to-share/classifier NEW-IMAGES --out scores.csv
synthdp privacy data/{name}                    # the record: what left, and what it promises in all
```

What `synthdp evaluate` and the study write are exact figures of patients: they stay in the house,
unless `--auroc-epsilon` pays for one that may leave.

| file | what it is |
| --- | --- |
| `data.yaml` | how images, findings and patients are found |
| `study.yaml` | your patients with a guarantee, and without privacy |
| `classifier.yaml` | the classifier that you release (epsilon 8) |

Findings are {targets}: 1, 0, or unknown, which is left out."""
_VOLUMES = """\
```sh
synthdp data import data.yaml                  # your scans -> data/{name}
synthdp data check data/{name}
synthdp study study.yaml                       # figures and tables: studies/{name}/report.html
synthdp report studies/{name} --format latex --out table.tex
synthdp finetune classifier.yaml               # one classifier, to be given away
synthdp evaluate runs/classifier data/{name} --split val --out scores
synthdp privacy runs/classifier                # what it promises, in words
synthdp privacy --release runs/classifier to-share/classifier
synthdp predict to-share/classifier NEW-SCANS --out scores.csv
synthdp privacy data/{name}                    # the record: what left, and what it promises in all
```

What `synthdp evaluate` and the study write are exact figures of patients: they stay in the house,
unless `--auroc-epsilon` pays for one that may leave. The classifier knows how its volumes were made
of scans, and brings new ones to the same form.

| file | what it is |
| --- | --- |
| `data.yaml` | how volumes, classes and patients are found, and what every volume becomes |
| `study.yaml` | your patients with a guarantee, and without privacy |
| `classifier.yaml` | the classifier that you release (epsilon 8) |

Class 1 is `{targets}`."""
_POPULATION = """ `population` ({population}) is the public number that every promise rests on:
it must be at least the number of your patients, and nothing else says how many they are.
"""
_IMAGES = """\
Nothing tells which images are of one patient: the promise is to each image (`privacy.unit: image`),
and a patient of several images has less.
"""
_OF_KIND: dict[Kind, str] = {"patches": _PATCHES, "findings": _FINDINGS, "volumes": _VOLUMES}


def readme(answers: Answers) -> str:
    """The README beside settings that are written from these answers."""
    text = _HEAD + _OF_KIND[answers.kind] + _POPULATION
    if answers.unit == "image":
        text = text.replace("the number of your patients", "the number of your images")
        text += _IMAGES
    selecting = selects(answers.kind, answers.targets)
    return text.format(
        pool=_POOL if selecting else "",
        minutes=": some 5 minutes" if selecting else "",
        pool_row=_POOL_ROW if selecting else "",
        generator=_SELECTS if selecting else _MOVES,
        name=answers.name,
        targets=", ".join(answers.targets),
        population=answers.population,
        subject="subject=chest " if shows_chests(answers.targets) else "",
    )
