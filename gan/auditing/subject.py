"""What an audit attacks: an embedding's one noisy release, with all that decides it but noise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gan.private.condition_means import ConditionPart
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

    Of several findings labels are (N, T), and `shares` holds the public share of each. Where
    conditions are told, `part` says which they have, and codes (N, A) which values images have
    on the public lists, 0 none; else codes are (N, 0).
    """

    vectors: Tensor
    labels: Tensor
    units: Tensor
    codes: Tensor
    shares: tuple[float, ...] | None = None
    part: ConditionPart | None = None

    @property
    def n_units(self) -> int:
        """How many patients there are (private)."""
        return int(self.units.max()) + 1 if len(self.units) else 0

    def rows(self) -> Tensor:
        """One row a patient, by the code under test."""
        units, part = self.units, self.part
        return vectors_of_patients(
            self.vectors, self.labels, units, self.n_units, self.shares, codes=self.codes, part=part
        )

    @property
    def row_size(self) -> int:
        """How many numbers a patient's row has."""
        size = self.vectors.shape[1]
        if self.shares is not None:
            return (1 + len(self.shares)) * size + len(self.shares)
        return 2 * size if self.part is None else (2 + sum(self.part.counts)) * size

    def made_up(
        self, vectors: Tensor, labels: Sequence[int], units: Tensor, values: Sequence[int] = ()
    ) -> "Vectors":
        """Made-up images, to be looked at like these.

        Args:
            vectors: of them.
            labels: the same for each finding.
            units: the patient of each, from 0.
            values: of each the index, from 0, of its value in every condition's list, which is
                begun again behind its end; the first when not given.
        """
        own = torch.tensor(labels, dtype=torch.long)
        if self.shares is not None:
            own = own[:, None].repeat(1, len(self.shares))
        codes = torch.zeros(len(own), 0, dtype=torch.long)
        if self.part is not None:
            counts = torch.tensor(self.part.counts)
            numbers = torch.tensor(list(values) or [0] * len(own), dtype=torch.long)
            codes = 1 + numbers[:, None] % counts
        return Vectors(vectors, own, units, codes, self.shares, self.part)

    def of(self, kept: Tensor, units: Tensor) -> "Vectors":
        """Some of the images, by a mask or their numbers, and whose each is."""
        return replace(
            self,
            vectors=self.vectors[kept],
            labels=self.labels[kept],
            codes=self.codes[kept],
            units=units,
        )

    def without(self, unit: int) -> "Vectors":
        """All patients but one."""
        kept = self.units != unit
        units = self.units[kept]
        return self.of(kept, units - (units > unit).long())

    def joined(self, other: "Vectors") -> "Vectors":
        """These patients, then others."""
        return replace(
            self,
            vectors=torch.cat([self.vectors, other.vectors]),
            labels=torch.cat([self.labels, other.labels]),
            codes=torch.cat([self.codes, other.codes]),
            units=torch.cat([self.units, other.units + self.n_units]),
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
        part: ConditionPart | None = None,
    ) -> "EmbeddingSubject":
        """With the images embedded."""
        vectors = image_vectors(features, examples.images)
        embedded = Vectors(vectors, examples.labels, units, examples.attributes, shares, part)
        return cls(features, examples, units, embedded, mechanism, delta, noise)

    @property
    def audited(self) -> Audited:
        """Whose promise is tried, for the record."""
        return Audited("embedding", self.epsilon, self.delta, self.mechanism.mu)

    def released(self, embedded: Vectors, noise_source: NoiseSource) -> Tensor:
        """The release of embedded images by the code under test, as long as a row."""
        return release_once(embedded.rows(), self.mechanism, noise_source)
