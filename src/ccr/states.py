"""States of one file's texts after a network's frozen prefix, computed before training runs ask for them."""

import pyarrow as pa
import pyarrow.compute as pc
import torch

from ccr.artifacts.jobs import Job
from ccr.artifacts.parquet import read_parquet, write_parquet
from ccr.artifacts.schemas import CAPTIONS
from ccr.networks.dual_encoder import text_encoder
from ccr.networks.states import States, encoder_hash
from ccr.networks.tokens import Tokens, pretrained_tokenizer

RECEIPT = pa.schema([("encoder", pa.string()), ("texts", pa.int64())])


def run(job: Job) -> None:
    """Fill the store of states; what is written is a receipt. A training run computes what it does not find there."""
    settings = job.settings["text"]
    torch.set_num_threads(job.settings["threads"])
    tokenizer = pretrained_tokenizer(settings["encoder"])
    texts = _texts(job)
    module = text_encoder(settings)
    config = module.encoder_config(settings, tokenizer.get_vocab_size())
    encoder = module.Encoder(settings, config, pretrained=True).to("cuda" if torch.cuda.is_available() else "cpu")
    if texts:
        States(encoder, Tokens(tokenizer, texts, settings["max_tokens"], prompt=settings["prompt"]))
    receipt = {"encoder": [encoder_hash(encoder)], "texts": [len(texts)]}
    write_parquet(receipt, job.outputs["states"], RECEIPT, key=job.key)


def _texts(job: Job) -> list[str]:
    """The distinct texts of the file; with the setting `train_lang`, from train only those in that language."""
    table, lang = read_parquet(job.inputs["texts"], CAPTIONS), job.settings["train_lang"]
    if lang is not None:
        table = table.filter(pc.or_(pc.not_equal(table["split"], "train"), pc.equal(table["lang"], lang)))
    return table["text"].unique().to_pylist()
