import pytest
from torch.utils.tensorboard import SummaryWriter

from recbole_session.report.html_report import validation_curve


def test_validation_curves_come_from_the_events(tmp_path):
    folder = tmp_path / "tensorboard"
    with SummaryWriter(str(folder)) as writer:
        for epoch, value in ((0, 0.1), (2, 0.3), (4, 0.2)):
            writer.add_scalar("Vaild_score", value, epoch, walltime=100 + epoch)
            writer.add_scalar("Loss/Train", 7.0, epoch)
    with SummaryWriter(str(folder), filename_suffix=".resumed") as writer:  # epoch 4 again, after a kill
        writer.add_scalar("Vaild_score", 0.25, 4, walltime=200)
    curve = validation_curve(tmp_path)
    assert [epoch for epoch, _ in curve] == [1, 3, 5]
    assert [value for _, value in curve] == pytest.approx([0.1, 0.3, 0.25])


def test_no_events_are_no_curve(tmp_path):
    assert validation_curve(tmp_path) == []
    (tmp_path / "tensorboard").mkdir()
    assert validation_curve(tmp_path) == []
