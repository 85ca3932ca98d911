"""What an audit attacks: an embedding's one noisy release, with all that decides it but noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.private.embedding import PublicMap, image_vectors, vectors_of_patients
from gan.training.examples import Examples
from synthdp.privacy.attacks.rerun import PromisedTraining
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import release_once
from synthdp.privacy.noisy_sum.noise import NoiseKind, NoiseSource
from synthdp.runs.audit_record import Audited


@dataclass(frozen=True, eq=False)
class Vectors:
    """Images as the public map gives them: vectors (N, K), labels (N,), units (N,) from 0.

    Of several findings labels are (N, T), and `shares` holds the public share of each.
    """

    vectors: Tensor
    labels: Tensor
    units: Tensor
    shares: tuple[float, ...] | None = None

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def rows(self) -> Tensor:
        """One row a patient, by the code under test."""
        return vectors_of_patients(self.vectors, self.labels, self.units, self.n_units, self.shares)

    @property
    def row_size(self) -> int:
        """How many numbers a patient's row has."""
        size = self.vectors.shape[1]
        return 2 * size if self.shares is None else (1 + len(self.shares)) * size + len(self.shares)

    def classes(self, values: Sequence[int]) -> Tensor:
        """Labels of made-up images, the same for each finding."""
        labels = torch.tensor(values, dtype=torch.long)
        return labels if self.shares is None else labels[:, None].repeat(1, len(self.shares))

    def without(self, unit: int) -> "Vectors":
        """All patients but one."""
        kept = self.units != unit
        units = self.units[kept]
        units = units - (units > unit).long()
        return Vectors(self.vectors[kept], self.labels[kept], units, self.shares)

    def joined(self, other: "Vectors") -> "Vectors":
        """These patients, then others."""
        return Vectors(
            torch.cat([self.vectors, other.vectors]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.units, other.units + self.n_units]),
            self.shares,
        )


@dataclass(frozen=True, eq=False)
class EmbeddingSubject(PromisedTraining):
    """The private release of a generator, ready to be made again.

    features: the public map; examples: the patients' images; units: (N,) the patient of each;
    embedded: what the map gives for them; delta: at which the mechanism's epsilon is stated.
    """

    features: PublicMap
    examples: Examples
    units: Tensor
    embedded: Vectors
    mechanism: Mechanism
    delta: float
    noise: NoiseKind = "shake256"

    @classmethod
    def of(
        cls,
        features: PublicMap,
        examples: Examples,
        units: Tensor,
        *,
        mechanism: Mechanism,
        delta: float,
        noise: NoiseKind = "shake256",
        shares: tuple[float, ...] | None = None,
    ) -> "EmbeddingSubject":
        """With the images embedded."""
        vectors = image_vectors(features, examples.images)
        embedded = Vectors(vectors, examples.labels, units, shares)
        return cls(features, examples, units, embedded, mechanism, delta, noise)

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("embedding", self.epsilon, self.delta, self.mechanism.mu)

    def released(self, embedded: Vectors, noise_source: NoiseSource) -> Tensor:
        """The release of embedded images by the code under test, as long as a row."""
        return release_once(embedded.rows(), self.mechanism, noise_source)
