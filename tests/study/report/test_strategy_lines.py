from classify.strategies import STRATEGIES
from synthdp.study.report.strategy_lines import WHAT_IT_DOES


def test_every_strategy_is_explained() -> None:
    assert set(WHAT_IT_DOES) == set(STRATEGIES)
