"""The live view of a search, and its trials in words."""

from types import SimpleNamespace

import pytest

optuna = pytest.importorskip("optuna")

from recbole_session.config.session_config import SessionConfig  # noqa: E402
from recbole_session.tune.output import best_trial, count_trials, describe_search, describe_trial  # noqa: E402
from recbole_session.tune.search_space import Search, suggest  # noqa: E402

SPACE = {"session_features": [[], ["ST"]], "learning_rate": {"low": 0.001, "high": 0.1}}


def make_search() -> Search:
    config = SessionConfig("SessionBERT4Rec", "toy", config_dict={"valid_candidates": "popular"})
    return Search(config, SPACE, "tpe")


def make_study() -> SimpleNamespace:
    """Two trials that ended with equal scores, one that runs, and one that repeats an interrupted one."""
    study = optuna.create_study(direction="maximize")
    for features, rate in (("[]", 0.0123456), ('["ST"]', 0.05)):
        study.enqueue_trial({"session_features": features, "learning_rate": rate})
        trial = study.ask()
        suggest(trial, SPACE)
        study.tell(trial, 0.25)
    study.enqueue_trial({"session_features": "[]", "learning_rate": 0.1})
    running = study.ask()
    suggest(running, SPACE)
    for epoch, score in ((1, 0.125), (2, 0.375), (3, 0.25)):
        running.report(score, epoch)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    optuna.storages.RetryHeartbeatStaleTrialCallback()(study, study.trials[3])
    return study


def test_a_row_per_trial_in_progress() -> None:
    study = make_study()
    cells, line = describe_search(study, make_search(), 5)
    assert cells == [("2", "epoch 3, best 0.3750", "0 s ago", "session_features [], learning_rate 0.1")]
    assert line == "2 of 5 trials made; best 0.2500 of trial 0, about 0 s left"


def test_trials_that_are_repeated_or_wait_do_not_count() -> None:
    study = make_study()
    assert count_trials(study) == (2, 1)  # of five
    best = best_trial(study)
    assert best is not None and best.number == 0  # the first of equals
    assert best_trial(optuna.create_study()) is None


def test_how_a_trial_ended_in_words() -> None:
    study = make_study()
    assert describe_trial(study, make_search(), 5, study.trials[1]) == (
        "[3/5] trial 1: ndcg@10 (popular, validation) 0.2500 in 0 s; "
        "session_features ['ST'], learning_rate 0.05; best 0.2500 of trial 0"
    )
