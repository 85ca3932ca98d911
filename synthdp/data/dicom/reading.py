"""Which DICOM images are taken, and how their grey levels are made: settings alone."""

from typing import Literal

from synthdp.config.settings import Settings


class DicomReading(Settings):
    """Which DICOM images are taken, and how their grey levels are made.

    No header can prove that there is no writing in the picture: look.
    """

    window: Literal["full", "dicom"] = "full"
    """`full` spreads the whole range of grey levels in the image, its darkest to its brightest,
    which is the published recipe for mammograms; `dicom` shows the first VOI table or window of the
    header, and the whole range where it has none.
    """

    modalities: tuple[str, ...] = ("MG", "DX", "CR", "CT")
    """Modalities that are taken, as headers name them."""

    for_processing: Literal["refuse", "take"] = "refuse"
    """Whether raw data of a detector are taken, which look like no picture."""

    burned_in: Literal["refuse", "refuse_unless_no", "take"] = "refuse"
    """About writing or faces in the picture, by BurnedInAnnotation and RecognizableVisualFeatures:
    `refuse` refuses what says yes, `refuse_unless_no` also what doesn't say.
    """

    polarity: Literal["agreed", "photometric", "presentation"] = "agreed"
    """What decides where the photometric interpretation and the presentation LUT shape disagree on
    whether the image is a negative: `agreed` refuses such an image.
    """
