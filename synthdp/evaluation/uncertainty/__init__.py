"""How sure figures are: intervals over patients, differences of models, the spread of seeds."""
