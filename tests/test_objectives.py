"""Objectives against plain definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from ccr.objectives import (
    adversarial,
    embedding_distillation,
    feature_regression,
    infonce,
    instance_alignment,
    relation_distillation,
    soft_similarity,
    triplet,
)
from ccr.objectives.step import Step

PAIR = ("visual", "target")


def step(n=7, d=5, items=None, seed=0, **more):
    generator = torch.Generator().manual_seed(seed)
    embeddings = {
        stream: functional.normalize(torch.randn(n, d, generator=generator, dtype=torch.float64), dim=1)
        for stream in ("visual", "source", "target", "cross")
    }
    items = torch.arange(n) if items is None else torch.tensor(items)
    return Step(embeddings, items, torch.tensor(0.07), **more)


def plain_infonce(similarity, items, tau):
    total = 0.0
    for matrix in (similarity, similarity.T):
        for i in range(len(matrix)):
            kept = [j for j in range(len(matrix)) if j == i or items[j] != items[i]]
            row = np.exp(matrix[i, kept] / tau)
            total -= np.log(row[kept.index(i)] / row.sum())
    return total / 2 / len(similarity)


@pytest.mark.parametrize("items", [[0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 2, 3]])
def test_infonce_leaves_out_other_captions_of_the_item(items):
    batch = step(items=items)
    similarity = batch.similarity(PAIR).numpy()
    value = infonce.loss(batch, pair=PAIR, tau=0.2, mask_same_item=True)
    assert value.item() == pytest.approx(plain_infonce(similarity, items, 0.2))
    unmasked = infonce.loss(batch, pair=PAIR, tau=0.2, mask_same_item=False)
    assert unmasked.item() == pytest.approx(plain_infonce(similarity, range(7), 0.2))


def test_infonce_uses_the_learnable_temperature_when_none_is_given():
    batch = step()
    learnt = infonce.loss(batch, pair=PAIR, tau=None, mask_same_item=True)
    assert learnt.item() == pytest.approx(infonce.loss(batch, pair=PAIR, tau=0.07, mask_same_item=True).item())


def plain_triplet(similarity, items, margin, hardest, mean):
    n, directions = len(similarity), []
    for matrix in (similarity, similarity.T):
        hinges = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j and items[i] != items[j]:
                    hinges[i, j] = max(0.0, margin + matrix[i, j] - matrix[i, i])
        values = hinges.max(1) if hardest else hinges
        directions.append(values.mean() if mean else values.sum())
    return sum(directions)


@pytest.mark.parametrize("negatives", ["hardest", "all"])
@pytest.mark.parametrize("scale", ["mean", "sum"])
@pytest.mark.parametrize("items", [[0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 1, 1, 2, 3]])
def test_triplet_is_the_hinge_both_ways(negatives, scale, items):
    batch = step(items=items)
    value = triplet.loss(batch, pair=PAIR, margin=0.2, negatives=negatives, scale=scale, mask_same_item=True)
    expected = plain_triplet(batch.similarity(PAIR).numpy(), items, 0.2, negatives == "hardest", scale == "mean")
    assert value.item() == pytest.approx(expected)


def test_a_batch_of_one_item_has_no_negatives():
    batch = step(n=3, items=[5, 5, 5])
    assert infonce.loss(batch, pair=PAIR, tau=0.1, mask_same_item=True).item() == pytest.approx(0)
    options = {"margin": 0.2, "negatives": "hardest", "scale": "mean", "mask_same_item": True}
    assert triplet.loss(batch, pair=PAIR, **options).item() == 0


def test_instance_alignment_is_either_loss_between_the_texts():
    batch, pair = step(), ("source", "target")
    options = {"pair": pair, "tau": 0.1, "margin": 0.2, "mask_same_item": True}
    assert torch.equal(
        instance_alignment.loss(batch, loss="infonce", **options),
        infonce.loss(batch, pair=pair, tau=0.1, mask_same_item=True),
    )
    assert instance_alignment.loss(batch, loss="triplet", **options) > 0


def distilled(objective, batch, **options):
    """Value and largest gradient on the student's embeddings."""
    leaves = [batch.embeddings[stream].requires_grad_() for stream in PAIR]
    batch = replace(batch, _similarity={})
    value = objective.loss(batch, pair=PAIR, **options)
    gradients = torch.autograd.grad(value, leaves)
    return value.item(), max(g.abs().max().item() for g in gradients)


@pytest.mark.parametrize("intra", [False, True])
def test_distillation_is_zero_without_gradient_when_student_and_teacher_agree(intra):
    batch = step()
    batch.teacher = {"source": batch.embeddings["visual"].clone(), "target": batch.embeddings["target"].clone()}
    options = {"tau_teacher": 0.1, "tau_student": 0.1, "intra": intra}
    assert distilled(relation_distillation, batch, **options) == pytest.approx((0, 0), abs=1e-12)
    batch.teacher["target"] = step(seed=1).embeddings["target"]
    value, gradient = distilled(relation_distillation, batch, **options)
    assert value > 0 and gradient > 0


def test_relations_are_kept_by_a_rotation_and_embeddings_are_not():
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    batch = step()
    teacher = {"source": batch.embeddings["visual"], "target": batch.embeddings["target"]}
    batch.teacher = {stream: (x @ rotation).clone() for stream, x in teacher.items()}
    relations = distilled(relation_distillation, batch, tau_teacher=0.1, tau_student=0.1, intra=True)
    assert relations == pytest.approx((0, 0), abs=1e-12)
    cosines = torch.cat([(x * batch.teacher[stream]).sum(1) for stream, x in teacher.items()])
    assert distilled(embedding_distillation, batch)[0] == pytest.approx(1 - cosines.mean().item())
    batch.teacher = {stream: x.clone() for stream, x in teacher.items()}
    assert distilled(embedding_distillation, batch)[0] == pytest.approx(0, abs=1e-12)


def test_intra_adds_the_relations_among_captions():
    batch = step()
    batch.teacher = {stream: step(d=9, seed=1).embeddings[stream] for stream in ("source", "target")}
    options = {"pair": PAIR, "tau_teacher": 0.1, "tau_student": 0.3}
    one, both = (relation_distillation.loss(batch, **options, intra=intra) for intra in (False, True))
    captions = step()
    captions.embeddings["visual"] = captions.embeddings["target"]
    captions.teacher = {stream: batch.teacher["target"] for stream in ("source", "target")}
    assert (both - one).item() == pytest.approx(relation_distillation.loss(captions, **options, intra=False).item())


def test_distillation_is_the_mean_divergence_of_rows_and_columns():
    batch = step()
    batch.teacher = {stream: step(d=9, seed=1).embeddings[stream] for stream in ("source", "target")}
    teacher = (batch.teacher["source"] @ batch.teacher["target"].T).numpy() / 0.1
    student = batch.similarity(PAIR).numpy() / 0.3
    total = 0.0
    for p, q in ((teacher, student), (teacher.T, student.T)):
        p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (p, q))
        total += (p * np.log(p / q)).sum(1).mean() / 2
    value = relation_distillation.loss(batch, pair=PAIR, tau_teacher=0.1, tau_student=0.3, intra=False)
    assert value.item() == pytest.approx(total)


def gradients(loss, *streams, **options):
    """Gradient of an objective on each of the streams, None where there is none."""
    batch = step()
    leaves = [batch.embeddings[stream].requires_grad_() for stream in streams]
    return torch.autograd.grad(loss(batch, **options), leaves, allow_unused=True)


def test_soft_similarity_is_the_cross_entropy_to_the_teachers_softmax():
    batch = step()
    visual, target, cross = (batch.embeddings[stream].numpy() for stream in ("visual", "target", "cross"))
    expected = 0.0
    for one, two in ((visual @ cross.T, visual @ target.T), ((visual @ cross.T).T, (visual @ target.T).T)):
        teacher, student = (np.exp(x / 0.1) / np.exp(x / 0.1).sum(1, keepdims=True) for x in (one, two))
        expected -= (teacher * np.log(student)).sum(1).mean() / 2
    value = soft_similarity.loss(batch, pair=PAIR, tau=0.1, cut_visual=True, cut_teacher=True)
    assert value.item() == pytest.approx(expected)


def test_soft_targets_are_cut_unless_the_published_form_is_asked_for():
    options = {"pair": PAIR, "tau": 0.07}
    cut = gradients(soft_similarity.loss, "visual", "cross", **options, cut_visual=True, cut_teacher=True)
    published = gradients(soft_similarity.loss, "visual", "cross", **options, cut_visual=False, cut_teacher=True)
    assert cut[1] is None and published[1] is None
    assert (cut[0] - published[0]).abs().max() > 0.1 * cut[0].abs().max()


def test_feature_regression_sums_over_dimensions_where_published_averages():
    batch = step()
    difference = (batch.embeddings["cross"] - batch.embeddings["target"]).numpy()
    options = {"pair": ("source", "target"), "beta": 4.0, "cut_teacher": True}
    summed, averaged = (feature_regression.loss(batch, reduction=r, **options).item() for r in ("sum", "mean"))
    assert summed == pytest.approx((difference**2).sum(1).mean() / 8)
    assert averaged == pytest.approx((difference**2).mean() / 8)


@pytest.mark.parametrize("cut", [True, False])
def test_the_teacher_of_feature_regression_is_a_target_or_moves_too(cut):
    options = {"pair": ("source", "target"), "beta": 4.0, "reduction": "sum", "cut_teacher": cut}
    cross, target = gradients(feature_regression.loss, "cross", "target", **options)
    assert target.abs().sum() > 0
    assert (cross is None) if cut else torch.allclose(cross, -target)


def test_the_encoder_is_rewarded_where_translations_pass_for_originals():
    pair = ("source", "target")
    values = [
        adversarial.loss(step(logits={pair: torch.full((7, 2), x)}), pair=pair, discriminator="mlp", lr=1e-3).item()
        for x in (-2.0, 0.0, 2.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[1] == pytest.approx(np.log(2))
    right, wrong = torch.full((7, 2), 3.0), torch.full((7, 2), -3.0)
    assert adversarial.discriminator_loss(right, wrong) < adversarial.discriminator_loss(wrong, right)
