"""What each strategy of a study does, in a line for who reads its report."""

#: By the names of `classify.strategies`.
WHAT_IT_DOES = {
    "real_only": "trained on the patients' images alone, on features of networks that stay as "
    "they are",
    "transformer_only": "as real only, on the features of the transformer alone",
    "synthetic_only": "trained on synthetic images alone, and scored on real ones; no patient's "
    "image is used after the generator",
    "phantoms_only": "trained on phantoms alone, which are drawn by rules and show no patient",
    "pretrain_then_finetune": "first trained on synthetic images, then on the patients",
    "pretrain_keep_head": "the same, and goes on from the classifier that it learned first",
    "pretrain_then_blocks": "first trained on synthetic images; then the network's last blocks are "
    "trained on the patients too",
    "pretrain_then_lora": "first trained on synthetic images; then small additions to the network "
    "(LoRA) are trained on the patients",
    "private_pretrain_then_finetune": "first trained on synthetic images of a generator with a "
    "guarantee, then on the patients",
    "phantoms_then_finetune": "first trained on phantoms, which cost no privacy, then on the "
    "patients",
    "phantoms_keep_head": "first trained on phantoms; then the same classifier is trained on the "
    "patients",
    "private_pretrain_keep_head": "first trained on synthetic images of a generator with a "
    "guarantee; then the same classifier is trained on the patients",
    "phantoms_then_lora": "first trained on phantoms; then small additions to the network (LoRA) "
    "are trained on the patients",
    "blocks_only": "the last blocks of a network with public weights are trained on the patients "
    "too",
    "whole_only": "all of a network is trained on the patients, from the weights that the study "
    "names",
    "whole_backbone": "all of the network whose features the others stay with is trained on the "
    "patients, from public weights",
    "whole_from_random": "all of a network is trained on the patients, from random weights",
    "phantoms_then_whole": "all of a network is trained on phantoms, then on the patients",
    "pretrain_then_whole": "all of a network is trained on synthetic images, then all of it on the "
    "patients",
    "private_pretrain_then_whole": "all of a network is trained on synthetic images of a generator "
    "with a guarantee, then all of it on the patients",
    "public_only": "all of a network is trained on a public set alone, whose patients are not "
    "protected; no patient's image is used after that",
    "public_then_finetune": "all of a network is trained on a public set, whose patients are not "
    "protected; then a classifier on its features is trained on the patients",
    "public_then_whole": "all of a network is trained on a public set, whose patients are not "
    "protected, then all of it on the patients",
    "distilled_then_finetune": "first taught a larger network's features of phantoms, then trained "
    "on the patients",
    "real_and_synthetic": "trained on the patients' and synthetic images together",
    "real_and_private_synthetic": "trained on the patients' images and those of a generator with a "
    "guarantee together",
    "real_and_phantoms": "trained on the patients' images and on phantoms together",
    "phantoms_start": "as real only, beginning with a classifier that learned phantoms",
    "private_synthetic_start": "as real only, beginning with a classifier that learned synthetic "
    "images of a generator with a guarantee",
    "paper": "the published recipe, on the patients' images",
    "paper_real_and_synthetic": "the published recipe, on the patients' and synthetic images",
    "paper_synthetic_only": "the published recipe, on synthetic images alone",
    "paper_pretrained": "the published recipe: first on synthetic images, then on the patients",
}
