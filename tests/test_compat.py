import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_session.compat import readable_line, recbole_logs_to


def test_recboles_own_config_and_metrics_start_on_this_numpy() -> None:
    """In a process of its own: RecBole's Config changes lists of its modules and the environment."""
    code = """
import numpy, recbole_session
from recbole.config import Config
from recbole.evaluator.metrics import NDCG
config = Config("SASRec", "ml-100k", config_dict={"train_neg_sample_args": None})
print(NDCG(config).metric_info(numpy.array([[False, True]]), numpy.array([1]))[0, 1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(1 / np.log2(3))


def test_ray_is_never_imported() -> None:
    code = "import sys, recbole_session.run.training; print([m for m in ('ray', 'thop', 'plotly') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_stack_is_one_of_the_two_that_are_promised() -> None:
    stack = (np.__version__.split(".")[0], pd.__version__.split(".")[0])
    assert stack in {("1", "2"), ("2", "3")}
    assert torch.__version__.startswith("2.")


def test_recboles_trainer_logs_to_what_it_is_given_and_the_patch_ends() -> None:
    import recbole.trainer.trainer as trainer

    originals, log = (trainer.get_tensorboard, trainer.WandbLogger), object()
    with recbole_logs_to(log):
        assert trainer.get_tensorboard(None) is trainer.WandbLogger(None) is log
    assert (trainer.get_tensorboard, trainer.WandbLogger) == originals


def test_recboles_models_do_not_switch_anomaly_detection_on() -> None:
    """RecBole's SINE does, for every model of the process."""
    code = "import torch; from recbole_session.config.models import available_models; available_models(); "
    code += "print(torch.is_anomaly_enabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("\x1b[1;32mepoch 0 training\x1b[0m [time: 1.00s, train loss: 9.0000]", "epoch 1 training"),
        ("Finished training, best eval result in epoch 3", "in epoch 4"),
        ("trained for 7 epochs; epoch 3 is kept", "7 epochs; epoch 3 is kept"),
    ],
)
def test_epochs_count_from_one(message: str, shown: str) -> None:
    record = logging.LogRecord("root", logging.INFO, "", 0, message, None, None)
    assert readable_line(record)
    assert shown in record.getMessage()


@pytest.mark.parametrize(
    "message", ["\x1b[1;32mepoch 9 evaluating\x1b[0m [time: 1 s]", "\x1b[1;34mvalid result\x1b[0m: \nx"]
)
def test_recboles_lines_about_a_validation_are_stopped(message: str) -> None:
    assert not readable_line(logging.LogRecord("root", logging.INFO, "", 0, message, None, None))
