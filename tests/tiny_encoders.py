"""Text encoders of three layers with random weights, as folders that `transformers` loads."""

from pathlib import Path

import torch
import transformers as hf

from ccr.networks.tokens import train_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
TEXTS = ["a dog runs on the beach", "two men", "a dog", "the red car stands in a street", "ein Hund", "狗在跑"]
FAMILIES = {
    "bert": lambda size: hf.BertModel(hf.BertConfig(vocab_size=size, **SIZES)),
    "xlm-roberta": lambda size: hf.XLMRobertaModel(hf.XLMRobertaConfig(vocab_size=size, **SIZES)),
    "distilbert": lambda size: hf.DistilBertModel(
        hf.DistilBertConfig(vocab_size=size, dim=32, hidden_dim=64, n_layers=3, n_heads=2)
    ),
    "modernbert": lambda size: hf.ModernBertModel(hf.ModernBertConfig(vocab_size=size, pad_token_id=0, **SIZES)),
}


def text_encoder(folder: Path, family: str = "bert") -> str:
    """Write a model whose tokenizer knows TEXTS; returns the folder."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS * 3, 120)
    FAMILIES[family](tokenizer.get_vocab_size()).save_pretrained(folder)
    fast = hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", pad_token="[PAD]")
    fast.save_pretrained(folder)
    return str(folder)
