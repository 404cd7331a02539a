"""Translation models of two layers with random weights, as folders that `transformers` loads."""

import json
import warnings
from pathlib import Path

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CAPTIONS = [
    "a dog runs on the beach", "two men play football in the park", "the woman holds a red umbrella",
    "children jump into the cold water", "a man rides a bike down the hill", "一只狗在沙滩上跑",
    "两个男人在公园里踢足球", "女人拿着一把红色的伞",
]  # fmt: skip
POSITIONS = 64
LAYERS = {f"{part}_layers": 2 for part in ("encoder", "decoder")}
SIZES = {
    f"{part}_{name}": n for part in ("encoder", "decoder") for name, n in (("attention_heads", 2), ("ffn_dim", 32))
}


def pieces(file: Path) -> list[str]:
    """Train a sentencepiece model; returns its pieces without the special ones."""
    with file.open("wb") as stream:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CAPTIONS * 10), model_writer=stream, vocab_size=120, model_type="bpe",
            character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    every = [processor.id_to_piece(number) for number in range(len(processor))]
    return [piece for piece in every if piece not in ("<s>", "</s>", "<unk>")]


def vocabulary(file: Path, *tokens: str) -> int:
    """Write a vocabulary; returns its size."""
    file.write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    return len(tokens)


def save(model: type, config: transformers.PreTrainedConfig, folder: Path) -> None:
    """Save a model with random weights."""
    torch.manual_seed(0)
    model(config).save_pretrained(folder)


@torch.no_grad()
def with_twins(folder: Path) -> Path:
    """Give every second token of a Marian model the embedding of the one before, except for the last bits.

    Then each word that the model writes is a tie decided by the rounding of matrix products.
    """
    model = transformers.MarianMTModel.from_pretrained(folder)
    embeddings = model.get_input_embeddings().weight
    originals = embeddings[2:-1:2]
    embeddings[3::2][: len(originals)] = originals * (1 + 1e-7 * torch.randn_like(originals))
    model.save_pretrained(folder)
    return folder


def marian(
    folder: Path, codes: tuple[str, ...] = (), source: str = "eng", target: str = "zho", width: int = 16
) -> Path:
    """A Marian model; `codes`: its target languages, if there are several."""
    folder.mkdir()
    known = pieces(folder / "source.spm")
    (folder / "target.spm").write_bytes((folder / "source.spm").read_bytes())
    tokens = [f">>{code}<<" for code in codes]
    size = vocabulary(folder / "vocab.json", "</s>", "<unk>", *known, *tokens, "<pad>")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files = [str(folder / name) for name in ("source.spm", "target.spm", "vocab.json")]
        languages = {"source_lang": source, "target_lang": target}
        transformers.MarianTokenizer(*files, **languages, model_max_length=POSITIONS).save_pretrained(folder)
    config = transformers.MarianConfig(
        vocab_size=size, d_model=width, max_position_embeddings=POSITIONS, pad_token_id=size - 1,
        decoder_start_token_id=size - 1, eos_token_id=0, forced_eos_token_id=0, init_std=0.5, **LAYERS, **SIZES,
    )  # fmt: skip
    save(transformers.MarianMTModel, config, folder)
    return folder


def nllb(folder: Path, codes: tuple[str, ...] = ("eng_Latn", "zho_Hans")) -> Path:
    """An M2M100 model with NLLB's tokenizer, which knows these languages."""
    folder.mkdir()
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CAPTIONS, trainer)
    bpe = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(merge) for merge in bpe["merges"]]
    whole = transformers.NllbTokenizer(vocab=bpe["vocab"], merges=merges, extra_special_tokens=list(codes))
    whole.save_pretrained(folder)
    config = transformers.M2M100Config(
        vocab_size=len(whole), d_model=16, max_position_embeddings=POSITIONS, init_std=0.5, **LAYERS, **SIZES
    )
    save(transformers.M2M100ForConditionalGeneration, config, folder)
    return folder


def m2m_100(folder: Path, codes: str = "m2m100") -> Path:
    """An M2M100 model; `codes`: the name of its set of languages."""
    folder.mkdir()
    known = pieces(folder / "sentencepiece.bpe.model")
    size = vocabulary(folder / "vocab.json", "<s>", "<pad>", "</s>", "<unk>", *known)
    files = [str(folder / name) for name in ("vocab.json", "sentencepiece.bpe.model")]
    tokenizer = transformers.M2M100Tokenizer(*files, language_codes=codes)
    tokenizer.save_pretrained(folder)
    size += len(tokenizer.lang_token_to_id) + tokenizer.num_madeup_words
    config = transformers.M2M100Config(
        vocab_size=size, d_model=16, max_position_embeddings=POSITIONS, init_std=0.5, **LAYERS, **SIZES
    )
    save(transformers.M2M100ForConditionalGeneration, config, folder)
    return folder
