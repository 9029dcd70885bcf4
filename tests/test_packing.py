import pytest

from study.packing import make_packs


def test_packs_are_full_grouped_by_key_and_longest_first(make_trial):
    trials = [make_trial(depth=depth, seed=seed) for depth in (3, 9) for seed in range(5)]
    packs = make_packs(trials, max_pack=4)
    assert [(pack.trials[0].depth, len(pack.trials)) for pack in packs] == [(9, 3), (3, 3), (9, 2), (3, 2)]
    assert sorted(trial.trial_id for pack in packs for trial in pack.trials) == sorted(t.trial_id for t in trials)


def test_what_is_long_is_reckoned_in_arithmetic_that_is_left(make_trial):
    slim, wide = make_trial(depth=9, width=20), make_trial(depth=5, width=200)
    begun, short = make_trial(depth=8, width=200, epochs=9), make_trial(depth=8, width=200, epochs=3)
    packs = make_packs([slim, wide, begun, short], 4, {begun.trial_id: 8})
    assert [pack.trials[0] for pack in packs] == [short, wide, begun, slim]


def test_trials_of_different_shape_or_loop_never_share_a_pack(make_trial):
    different = [
        {}, {"width": 13}, {"activation": "tanh"}, {"normalization": "layer"}, {"optimizer": "sgd"}, {"epochs": 3},
        {"batch_size": 16}, {"train_size": 100}, {"clipping": "norm"}, {"probe_vectors": 3},
    ]  # fmt: skip
    packs = make_packs([make_trial(**fields) for fields in different], max_pack=64)
    assert [len(pack.trials) for pack in packs] == [1] * len(different)


def test_pack_id_depends_on_its_members_alone(make_trial):
    trials = [make_trial(seed=seed) for seed in range(4)]
    first, again = make_packs(trials, 2), make_packs(trials, 2)
    assert [pack.pack_id for pack in first] == [pack.pack_id for pack in again]
    assert len({pack.pack_id for pack in first}) == 2


def test_bad_max_pack(make_trial):
    with pytest.raises(ValueError, match="max_pack: 0 is out of range"):
        make_packs([make_trial()], 0)


def test_duplicates_are_named(make_trial):
    with pytest.raises(ValueError, match=r"number 3 repeats number 1 \(none-relu d5 .*give them different seeds"):
        make_packs([make_trial(), make_trial(seed=1), make_trial()], 4)
