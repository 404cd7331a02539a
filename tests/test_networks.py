"""Networks: an embedding depends only on its own caption or item, and nothing is computed on padding."""

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given, settings
from hypothesis import strategies as st
from late import Late
from torch.nn import functional

from ccr.errors import CcrError
from ccr.networks import scratch
from ccr.networks.checkpoint import load_network, load_tokenizer, save_weights
from ccr.networks.discriminator import Discriminator
from ccr.networks.dual_encoder import CrossSide, DualEncoder
from ccr.networks.ragged import Padded, Ragged
from ccr.networks.tokens import Tokens, train_tokenizer

pretrained = Late("ccr.networks.pretrained")

TEXT = {
    "encoder": "scratch", "hidden": 32, "layers": 2, "heads": 4, "feedforward": 64, "vocabulary": 200,
    "max_tokens": 256, "dropout": 0.1, "frozen_layers": 0, "frozen_prefix": "computed", "prompt": "",
    "block": {"hidden": 40, "heads": 4, "keys": 16, "input_dropout": 0.1, "dropout": 0.1},
}  # fmt: skip
VISUAL = {
    "hidden": 32, "layer_norm": True, "max_frames": 64, "input_dropout": 0.0, "dropout": 0.1,
    "block": {"heads": 4, "keys": 64},
}  # fmt: skip
NETWORK = {"text": TEXT, "visual": VISUAL, "dim": 24, "norm": "layer", "pooling": "masked_mean", "dropout": 0.2}


SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return DualEncoder(NETWORK, scratch.encoder_config(TEXT, 200), feature_dim=16, pretrained=True).eval()


lengths = st.lists(st.integers(1, 9), min_size=1, max_size=150)


@given(lengths)
@settings(deadline=None, max_examples=30)
def test_ragged_padding_goes_there_and_back(lengths):
    ragged = Ragged(torch.tensor(lengths))
    rows = torch.arange(sum(lengths) * 2.0).view(-1, 2)
    padded = ragged.pad(rows)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(ragged.unpad(padded), rows)
    expected = torch.stack([part.mean(0) for part in rows.split(lengths)])
    assert torch.allclose(ragged.mean(rows), expected)


@given(lengths)
@settings(deadline=None, max_examples=30)
def test_ragged_attention_is_attention_within_each_sequence(lengths):
    torch.manual_seed(len(lengths))
    ragged = Ragged(torch.tensor(lengths))
    query, key, value = torch.randn(3, sum(lengths), 2, 4)
    together = ragged.attend(query, key, value, 0.0, None)
    alone = [
        functional.scaled_dot_product_attention(*(x.transpose(0, 1) for x in parts)).transpose(0, 1)
        for parts in zip(*(x.split(lengths) for x in (query, key, value)), strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def texts(network, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(5, 200, (n,), generator=generator) for n in lengths]


@torch.inference_mode()
def embed(network, texts):
    return network.embed_text(torch.cat(texts), Ragged(torch.tensor([len(t) for t in texts])))


def test_a_caption_embeds_alike_alone_in_a_batch_and_beside_a_long_one(network):
    batch = texts(network, [3 + n % 20 for n in range(127)])
    alone = torch.cat([embed(network, [t]) for t in batch])
    long = texts(network, [200], seed=1)
    assert torch.allclose(embed(network, batch), alone, atol=1e-6, rtol=0)
    assert torch.allclose(embed(network, batch[:1] + long)[:1], alone[:1], atol=1e-6, rtol=0)
    order = torch.randperm(127)
    assert torch.allclose(embed(network, [batch[i] for i in order]), alone[order], atol=1e-6)


@torch.inference_mode()
def test_an_item_embeds_alike_alone_and_in_a_batch(network):
    frames = [torch.randn(n, 16, generator=torch.Generator().manual_seed(n)).half() for n in (1, 5, 60, 7)]
    together = network.embed_visual(torch.cat(frames), Ragged(torch.tensor([1, 5, 60, 7])))
    alone = torch.cat([network.embed_visual(f, Ragged(torch.tensor([len(f)]))) for f in frames])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("model", "ragged"),
    [
        (lambda: hf.BertModel(hf.BertConfig(**SMALL)), True),
        (lambda: hf.XLMRobertaModel(hf.XLMRobertaConfig(**SMALL)), True),
        (
            lambda: hf.DistilBertModel(
                hf.DistilBertConfig(vocab_size=99, dim=32, hidden_dim=64, n_layers=2, n_heads=2)
            ),
            None,
        ),
    ],
    ids=["bert", "xlm-roberta", "distilbert"],
)
def test_any_encoder_by_path_gives_what_it_gives_with_padding(model, ragged, tmp_path):
    model = model().eval()
    model.save_pretrained(tmp_path)
    settings = TEXT | {"encoder": str(tmp_path)}
    encoder = pretrained.Encoder(settings, pretrained.encoder_config(settings, 0), pretrained=True).eval()
    if ragged is not None:
        assert encoder._ragged is ragged
    shape = Ragged(torch.tensor([4, 9, 2]))
    tokens = torch.randint(3, 99, (15,), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        padded = model(input_ids=shape.pad(tokens) + ~shape.mask, attention_mask=shape.mask.long()).last_hidden_state
        assert torch.allclose(encoder(tokens, shape)[-1], shape.unpad(padded), atol=1e-5)


def test_an_encoder_that_is_nowhere_is_a_message():
    settings = TEXT | {"encoder": "./no/such/model"}
    with pytest.raises(CcrError, match="no/such/model.*config.json"):
        pretrained.encoder_config(settings, 0)


def test_frozen_layers_have_no_gradient(network):
    settings = TEXT | {"frozen_layers": 1}
    encoder = scratch.Encoder(settings, scratch.encoder_config(settings, 50), pretrained=True)
    frozen = {name for name, p in encoder.model.named_parameters() if not p.requires_grad}
    assert frozen and all("embeddings" in name or "layer.0." in name for name in frozen)
    with pytest.raises(CcrError, match="3 of 2 layers"):
        scratch.Encoder(TEXT | {"frozen_layers": 3}, scratch.encoder_config(TEXT, 50), pretrained=True)


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("batch", [Ragged, Padded])
def test_a_bert_from_scratch_is_the_one_of_transformers(layers, batch):
    """The same weights from the same seed, and the same states, on real tokens and with padding."""
    config = scratch.encoder_config(TEXT | {"layers": layers}, 99)
    torch.manual_seed(3)
    model = hf.BertModel(hf.BertConfig(**config)).eval()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    encoder = scratch.Encoder(TEXT | {"layers": layers}, config, pretrained=True).eval()
    assert torch.equal(drawn, torch.rand(1))
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("pooler")}
    assert weights.keys() == encoder.model.state_dict().keys()
    assert all(torch.equal(weight, weights[name]) for name, weight in encoder.model.state_dict().items())
    shape = batch(torch.tensor([4, 9, 2]))
    tokens = torch.randint(3, 99, (15,), generator=torch.Generator().manual_seed(0))
    padded = Ragged(shape.lengths).pad(tokens)
    with torch.inference_mode():
        output = model(input_ids=padded, attention_mask=shape.mask.long(), output_hidden_states=True)
        expected = output.hidden_states or [output.last_hidden_state]  # a model without layers lists none
        found = encoder(shape.fill(tokens, 0), shape, every_layer=True)
    assert len(found) == len(expected) == layers + 1
    for states, wanted in zip(found, expected, strict=True):
        assert torch.allclose(states, shape.unpad(wanted), atol=1e-5)


def test_tokenizers_keep_accents_and_take_cjk_by_character():
    tokenizer = train_tokenizer(["ein Hündchen läuft", "ein Hündchen schläft", "一只狗在跑", "一只狗在睡"] * 3, 200)
    assert tokenizer.encode("ein Hündchen").tokens == ["[CLS]", "ein", "hündchen", "[SEP]"]
    assert tokenizer.encode("一只狗").tokens == ["[CLS]", "一", "只", "狗", "[SEP]"]


def test_tokenizers_are_reproducible():
    corpus = [f"word{n % 37} und wort{n % 11} 字{chr(0x4E00 + n % 50)}" for n in range(500)]
    one, two = (train_tokenizer(corpus, 150).to_str() for _ in range(2))
    assert one == two


def test_tokens_are_the_tokenizers_row_by_row():
    corpus = ["a b c", "b", "a a a a a a", ""]
    tokenizer = train_tokenizer(corpus * 2, 50)
    tokens = Tokens(tokenizer, corpus, max_tokens=6)
    ids, ragged = tokens.batch(np.array([2, 0, 2]))
    expected = [tokenizer.encode(corpus[i]).ids for i in (2, 0, 2)]
    assert ragged.lengths.tolist() == [len(e) for e in expected] == [6, 5, 6]
    assert ids.tolist() == sum(expected, [])


def test_a_network_comes_back_from_disk(network, tmp_path):
    from ccr.artifacts.files import write_json

    description = {
        "settings": {"network": NETWORK},
        "text_config": scratch.encoder_config(TEXT, 200),
        "feature_dim": 16,
    }
    save_weights(network.state_dict(), tmp_path / "model.safetensors")
    write_json(description, tmp_path / "config.json")
    loaded, _ = load_network(tmp_path / "model.safetensors", tmp_path / "config.json")
    batch = texts(network, [4, 5])
    assert torch.equal(embed(loaded, batch), embed(network, batch))
    (tmp_path / "model.safetensors").write_bytes((tmp_path / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(CcrError, match="cut off"):
        load_network(tmp_path / "model.safetensors", tmp_path / "config.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CcrError, match="not a tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.usefixtures("ascii_locale")
def test_a_tokenizer_is_utf_8_on_every_machine(tmp_path):
    path = tmp_path / "tokenizer.json"
    train_tokenizer(["狗 dog"], 50).save(str(path))
    assert load_tokenizer(path).encode("狗").tokens == ["[CLS]", "狗", "[SEP]"]


@pytest.fixture(scope="module")
def published_form():
    """A network with `pooling: padded_mean`, and the same weights with `masked_mean`."""
    torch.manual_seed(1)
    config = scratch.encoder_config(TEXT, 200)
    padded = DualEncoder(NETWORK | {"pooling": "padded_mean"}, config, feature_dim=16, pretrained=True).eval()
    masked = DualEncoder(NETWORK, config, feature_dim=16, pretrained=True).eval()
    masked.load_state_dict(padded.state_dict())
    return padded, masked


@torch.inference_mode()
def test_the_published_form_depends_on_the_longest_of_the_batch_and_ours_does_not(published_form):
    padded, masked = published_form
    short, long = texts(padded, [6, 120], seed=2)

    def embedded(network, batch):
        shape = network.shape(torch.tensor([len(t) for t in batch]))
        tokens = shape.fill(torch.cat(batch), 0)
        features = torch.ones(len(tokens), 16)[: int(shape.mask.sum())] * torch.arange(int(shape.mask.sum()))[:, None]
        visual = network.embed_visual(shape.fill(features[:64], 0.0), shape) if len(batch) == 1 else None
        return network.embed_text(tokens, shape), visual

    alone, visual = zip(embedded(padded, [short]), embedded(masked, [short]), strict=True)
    assert torch.allclose(*alone, atol=1e-6) and torch.allclose(*visual, atol=1e-6)  # no padding: the same network
    beside_long = embedded(padded, [short, long])[0][:1], embedded(masked, [short, long])[0][:1]
    assert torch.allclose(beside_long[1], alone[1], atol=1e-6)
    assert (beside_long[0] - alone[0]).abs().max() > 1e-2


@torch.inference_mode()
@pytest.mark.parametrize("pooling", ["masked_mean", "padded_mean"])
def test_the_cross_attention_teacher_is_attention_from_source_to_target_without_residual(published_form, pooling):
    network = published_form[0 if pooling == "padded_mean" else 1]
    source, target = texts(network, [7, 4, 5], seed=3), texts(network, [3, 8, 8], seed=4)

    def encoded(batch):
        shape = network.shape(torch.tensor([len(t) for t in batch]))
        return network.encode_text(shape.fill(torch.cat(batch), 0), shape)

    rows = torch.arange(3)
    pooled = network.pool_cross(CrossSide.of(encoded(source), rows), CrossSide.of(encoded(target), rows))
    block = network.text_layers.block
    for n in (0, 1, 2) if pooling == "masked_mean" else (0,):  # only the first source has no padding; its target has
        one, two = encoded([source[n]]).attended, encoded([target[n]]).attended
        scores = torch.einsum("qhd,khd->hqk", one.query, two.key) * block.scale
        attended = torch.einsum("hqk,khd->qhd", scores.softmax(-1), two.value).flatten(1)
        states = torch.cat([block.norm(block.out(attended)), two.before])
        if pooling == "masked_mean":
            assert torch.allclose(pooled[n], states.mean(0), atol=1e-5)
        else:  # the target's five padded places enter the mean
            before = network.encode_text(*padded_batch(network, target)).attended.before.view(3, 8, -1)[0]
            assert torch.allclose(pooled[n], torch.cat([states[:7], before]).mean(0), atol=1e-5)


def padded_batch(network, batch):
    shape = network.shape(torch.tensor([len(t) for t in batch]))
    return shape.fill(torch.cat(batch), 0), shape


@pytest.mark.parametrize("kind", ["linear", "mlp", "conv"])
def test_a_discriminator_judges_each_caption_alone(kind):
    torch.manual_seed(0)
    discriminator = Discriminator(kind, 32)
    states = torch.randn(3, 9, 32)
    counted = torch.arange(9) < torch.tensor([[9], [4], [1]])
    logits = discriminator(states, counted)
    assert logits.shape == (3, 2)
    for n, length in enumerate((9, 4, 1)):
        alone = discriminator(states[n : n + 1, :length], counted[n : n + 1, :length])
        assert torch.allclose(logits[n], alone[0], atol=1e-5)
