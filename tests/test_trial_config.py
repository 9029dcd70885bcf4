import dataclasses
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.trial_config import FIELD_NAMES, PACK_KEY_FIELDS, TrialConfig, one_line, short_number


def test_trial_id_is_stable_across_versions_of_this_code():
    assert TrialConfig(depth=50).trial_id == "fb44d344185e"


def test_equal_content_has_equal_ids_whatever_the_number_types():
    assert TrialConfig(depth=10, dilution=1).trial_id == TrialConfig(depth=10.0, dilution=1.0).trial_id
    assert TrialConfig(depth=10, dilution=-0.0).trial_id == TrialConfig(depth=10, dilution=0.0).trial_id


def test_every_field_changes_the_trial_id():
    base = TrialConfig(depth=10, optimizer="sgd")
    other = {
        "depth": 11, "width": 7, "activation": "tanh", "normalization": "batch", "dilution": 2, "initialization":
        "orthogonal", "gain": "he", "optimizer": "adam", "learning_rate": 1, "momentum": 0.5, "weight_decay": 1,
        "schedule": "step", "clipping": "norm", "clipping_threshold": 3, "layerwise_step_sizes": True, "epochs": 1,
        "batch_size": 4, "train_size": 100, "test_size": 10, "seed": 1, "probe_size": 9, "probe_vectors": 3,
        "precision": "bf16",
    }  # fmt: skip
    assert set(other) == set(FIELD_NAMES)
    ids = {dataclasses.replace(base, **{name: value}).trial_id for name, value in other.items()}
    assert len(ids | {base.trial_id}) == len(FIELD_NAMES) + 1


def test_trials_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrialConfig(depth=10).depth = 11


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"depth": 1}, "depth: 1 is out of range"),
        ({"depth": 2.5}, "depth: 2.5 is not a whole number"),
        ({"depth": "ten"}, "depth: 'ten' is text; give a number without quotes"),
        ({"depth": True}, "depth: True is not a finite number"),
        ({"activation": "rleu"}, "activation: 'rleu' does not exist; did you mean 'relu'?"),
        ({"activation": 3}, "activation: 3 is not text"),
        ({"normalization": "group"}, "normalization: 'group' does not exist"),
        ({"initialization": "zeros"}, "initialization: 'zeros' does not exist"),
        ({"optimizer": "adamw"}, "optimizer: 'adamw' does not exist; did you mean 'adam'?"),
        ({"learning_rate": -0.1}, "learning_rate: -0.1 is out of range"),
        ({"learning_rate": 0}, "learning_rate: 0.0 is out of range"),
        ({"learning_rate": math.nan}, "learning_rate: nan is not a finite number"),
        ({"dilution": -1}, "dilution: -1.0 is out of range"),
        ({"dilution": math.inf}, "dilution: inf is not a finite number"),
        ({"gain": -1}, "gain: -1.0 is out of range"),
        ({"gain": "big"}, "gain: 'big' does not exist"),
        ({"momentum": 1}, "momentum: 1.0 is out of range"),
        ({"momentum": 0.9}, "momentum: 0.9 is out of range; leave it at 0 with adam"),
        ({"layerwise_step_sizes": True}, "layerwise_step_sizes: True is out of range; leave it False with adam"),
        ({"layerwise_step_sizes": "yes"}, "layerwise_step_sizes: 'yes' is not a truth value"),
        ({"batch_size": 1}, "batch_size: 1 is out of range"),
        ({"clipping": "global"}, "clipping: 'global' does not exist"),
        ({"clipping_threshold": 0}, "clipping_threshold: 0.0 is out of range"),
        ({"schedule": "linear"}, "schedule: 'linear' does not exist"),
        ({"probe_vectors": 1}, "probe_vectors: 1 is out of range"),
        ({"seed": -1}, "seed: -1 is out of range"),
        ({"dept": 3}, "field: 'dept' does not exist; did you mean 'depth'?"),
    ],
)
def test_bad_fields_are_named_with_value_and_remedy(fields, message):
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?").replace("'", ".")) as caught:
        TrialConfig.from_fields({"depth": 5, **fields})
    assert "\n" not in str(caught.value)


def test_a_missing_depth_is_named():
    with pytest.raises(ValueError, match="depth: is missing"):
        TrialConfig.from_fields({"width": 3})


junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers()))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)  # slow on a busy machine, never wrong
@given(st.dictionaries(st.sampled_from(FIELD_NAMES), junk))
def test_any_content_is_a_config_or_a_one_line_error(fields):
    message = ""
    try:
        trial = TrialConfig.from_fields(fields)
    except ValueError as error:
        message = str(error)
    if message:
        assert "\n" not in message
    else:
        assert TrialConfig.from_fields(json.loads(json.dumps(dataclasses.asdict(trial)))) == trial


def test_pack_key_leaves_out_what_members_may_differ_in():
    free = {
        "dilution", "initialization", "gain", "learning_rate", "momentum", "weight_decay", "schedule",
        "clipping_threshold", "seed",
    }  # fmt: skip
    assert free == set(FIELD_NAMES) - set(PACK_KEY_FIELDS)


def test_name_reads_as_people_write():
    trial = TrialConfig(depth=50, normalization="batch", dilution=1, learning_rate=3e-4)
    assert trial.name == "batch-relu d50 k1 adam lr3e-4 s0"
    unusual = dataclasses.replace(trial, optimizer="sgd", momentum=0.9, width=50, layerwise_step_sizes=True)
    assert unusual.name == "batch-relu d50 k1 sgd lr3e-4 s0 width=50 momentum=0.9 layerwise_step_sizes=True"


def test_trials_that_train_differently_have_names_of_their_own():
    trial = TrialConfig(depth=5)
    others = {
        "depth": 6, "width": 10, "activation": "tanh", "normalization": "batch", "dilution": 1, "seed": 1,
        "initialization": "orthogonal", "gain": 2.0, "optimizer": "sgd", "learning_rate": 0.1, "weight_decay": 0.1,
        "schedule": "cosine", "clipping": "norm", "clipping_threshold": 2.0, "epochs": 3, "batch_size": 64,
        "precision": "bf16",
    }  # fmt: skip
    names = {dataclasses.replace(trial, **{field: value}).name for field, value in others.items()}
    assert len(names | {trial.name}) == len(others) + 1


@pytest.mark.parametrize(
    ("value", "text"), [(3e-4, "3e-4"), (0.1, "0.1"), (1.5e-5, "1.5e-5"), (1, "1"), (0.02, "0.02")]
)
def test_short_numbers(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no such host\n[SQL: SELECT 1]", "no such host"),
        (
            "\n  (raised by an autoflush; use a block)\n(sqlite3.OperationalError) no table (yet)\n",
            "(sqlite3.OperationalError) no table (yet)",
        ),
        ("(nothing else)", "(nothing else)"),
        (" \n", "OSError"),
    ],
)
def test_the_line_of_an_error_that_says_what_went_wrong(text, line):
    assert one_line(OSError(text)) == line
