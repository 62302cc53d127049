import pytest
import torch

from cloud_node.evaluation.complexity import PEER, Subject, costs, gmacs, label, measure_ms, subjects
from cloud_node.evaluation.rows import Machine, Row
from cloud_node.evaluation.zerodce import zero_dce
from cloud_node.laegan import PRESETS, create


def test_operations_are_those_that_were_published() -> None:
    network = zero_dce()
    assert [round(gmacs(network, *size), 2) for size in ((256, 256), (600, 400))] == [5.19, 19.01]
    assert next(network.parameters()).device.type == "cpu"  # counting left it alone


def test_a_convolution_is_counted_by_hand() -> None:
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert gmacs(convolution, 40, 20) == pytest.approx(3 * 8 * 9 * 40 * 20 / 1e9)


def test_every_preset_is_counted_trained_or_not() -> None:
    found = subjects([], Machine())
    assert found[0].name == PEER
    names = {one.name for one in found}
    assert len({PRESETS[name] for name in names & set(PRESETS)}) == len(set(PRESETS.values()))
    assert all(one.network is not None and gmacs(one.network, 64, 48) > 0 for one in found)


def test_a_row_stands_for_its_preset() -> None:
    mine = create("fast").eval()
    found = {one.name: one for one in subjects([Row("fast", lambda rgb: rgb, True, mine, mine)], Machine())}
    assert found["fast"].network is mine


def test_times_are_taken_of_each_in_turn() -> None:
    calls: list[str] = []

    def subject(name: str) -> Subject:
        def forward(low: torch.Tensor) -> torch.Tensor:
            calls.append(name)
            assert low.shape == (1, 3, 20, 30)
            return low

        return Subject(name, forward)

    runs = measure_ms([subject("a"), subject("b")], (30, 20), Machine(), 3)
    assert calls == ["a", "b"] * 4  # a warm-up first
    assert {name: len(taken) for name, taken in runs.items()} == {"a": 3, "b": 3}


def test_a_network_that_is_an_onnx_file_has_times_only() -> None:
    [cost] = costs([Subject("iat", lambda low: low)], Machine(), 2)
    assert cost.parameters is None and cost.gmacs == {}
    assert set(cost.ms) == {"600x400", "1616x1080"} == {label((600, 400)), label((1616, 1080))}


def test_the_clock_waits_for_any_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    for device in ("cpu", "meta"):  # meta stands for what is not the processor
        measure_ms([Subject("a", lambda low: low)], (30, 20), Machine(torch.device(device)), 1)
    assert waited == [torch.device("meta")] * 2
