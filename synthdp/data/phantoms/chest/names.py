"""The findings that are drawn, by name: the 14 of NIH ChestX-ray14."""

#: In this order everywhere.
FINDINGS = (
    *("atelectasis", "cardiomegaly", "consolidation", "edema", "effusion", "emphysema", "fibrosis"),
    *("hernia", "infiltration", "mass", "nodule", "pleural_thickening", "pneumonia"),
    "pneumothorax",
)
#: What an image has that has none of them.
NO_FINDING = "no_finding"
