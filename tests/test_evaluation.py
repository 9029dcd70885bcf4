import torch

from study.evaluation import score


def test_examples_are_scored_as_by_argmax_and_cross_entropy_also_where_logits_are_equal():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(-2, 3, (3, 5, 400), generator=generator).float()
    labels = torch.randint(5, (400,), generator=generator)
    is_wrong, losses = score(logits, labels)
    assert (is_wrong == (logits.argmax(dim=1) != labels)).all()
    expected = torch.nn.functional.cross_entropy(logits, labels.expand(3, -1), reduction="none")
    torch.testing.assert_close(losses, expected)


def test_a_logit_that_is_not_finite_makes_the_loss_so():
    logits = torch.zeros(1, 4, 3)
    logits[0, 1, 0], logits[0, 1, 1] = torch.nan, torch.inf
    assert score(logits, torch.tensor([0, 1, 2]))[1].isfinite().tolist() == [[False, False, True]]
