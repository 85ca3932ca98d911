"""Who the images are of: splits, cohorts, units, ages, and what may tell who somebody is."""
