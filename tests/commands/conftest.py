"""The sub-commands are tested on the fixtures of the rooms that they call."""

from tests.converters.conftest import ml_1m_part as ml_1m_part
from tests.converters.conftest import refused as refused
from tests.inference.conftest import train_toy as train_toy
from tests.report.conftest import make_run as make_run
