"""Training that goes on from states taken on the way: bitwise what it is undisturbed, in whatever pack."""

import io

import pytest
import torch

from study import run_log_schema as schema
from study.train_loop import train_pack

from tests.test_train_loop import IN_BF16, VARIANTS  # isort: skip


def numbers(member):
    metrics = {name: value for name, value in member.metrics.items() if name != schema.EPOCH_SECONDS}
    return repr((member.epoch, metrics, member.layers, member.diverged))


def train(trials, dataset, take_at=None, **options):
    """Numbers of every trial and epoch; states of all trials at one epoch, through the bytes of a file."""
    rows, states = {}, {}
    for members in train_pack(trials, dataset, **options):
        for member in members:
            rows[member.trial_id, member.epoch] = numbers(member)
            if member.epoch == take_at:
                buffer = io.BytesIO()
                torch.save(member.take_state(), buffer)
                buffer.seek(0)
                states[member.trial_id] = torch.load(buffer, weights_only=True)
    return rows, states


@pytest.mark.parametrize("variant", [*VARIANTS, {"optimizer": "sgd", "learning_rate": 0.05}, IN_BF16])
@pytest.mark.parametrize("width", [12, 16])
def test_a_resumed_member_trains_to_the_same_bytes_in_another_pack(make_trial, small_dataset, variant, width):
    trials = [make_trial(**variant, width=width, epochs=4, seed=seed) for seed in range(3)]
    undisturbed, states = train(trials, small_dataset, take_at=2)
    for pack in ([trials[1]], [trials[2], trials[0]]):
        resumed, _ = train(pack, small_dataset, resume_from=states)
        expected = {(trial.trial_id, epoch) for trial in pack for epoch in (3, 4)}
        assert resumed == {key: undisturbed[key] for key in expected}


def test_members_that_diverge_after_a_resume_leave_the_others_alone(make_trial, small_dataset):
    trials = [make_trial(optimizer="sgd", learning_rate=rate, momentum=0.9, epochs=4) for rate in (0.1, 1e30, 0.2)]
    undisturbed, states = train([trials[0], trials[2]], small_dataset, take_at=1)
    states[trials[1].trial_id] = states[trials[0].trial_id]  # will diverge by its learning rate
    resumed, _ = train(trials, small_dataset, resume_from=states)
    assert (trials[1].trial_id, 4) not in resumed
    for trial in (trials[0], trials[2]):
        for epoch in (2, 3, 4):
            assert resumed[trial.trial_id, epoch] == undisturbed[trial.trial_id, epoch]


def test_states_are_copies(make_trial, small_dataset):
    trial = make_trial(epochs=2, normalization="batch")
    epochs = train_pack([trial], small_dataset)
    next(epochs)
    state = next(epochs)[0].take_state()

    def tensors():
        return [
            *state["network"].values(),
            *(moment for moments in state["optimizer"]["moments"] for moment in moments),
        ]

    before = [tensor.clone() for tensor in tensors()]
    assert len(before) > 12
    next(epochs)
    assert all(torch.equal(tensor, earlier) for tensor, earlier in zip(tensors(), before, strict=True))
