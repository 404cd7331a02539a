"""Stage `train`: train a CL teacher or a student on captions, translations and features; writes a run directory."""

import json
import logging
import os
import time

import numpy as np
import pandas as pd
import torch

from ccr.artifacts.files import atomic, write_json
from ccr.artifacts.jobs import Job, provenance
from ccr.artifacts.room import room_for
from ccr.errors import CcrError
from ccr.networks.checkpoint import load_text_encoder, load_tokenizer, save_weights
from ccr.networks.dual_encoder import DualEncoder, text_encoder
from ccr.networks.states import of_texts
from ccr.networks.tokens import Tokens, pretrained_tokenizer, train_tokenizer
from ccr.registry import reads_of
from ccr.retrieval.metrics import chance_sumr
from ccr.store import open_features, read_embeddings, write_embeddings
from ccr.train import processes
from ccr.train.checkpoint import Checkpoint
from ccr.train.keeper import Keeper
from ccr.train.loop import Trainer
from ccr.train.tracking import Tracking
from ccr.train.triplets import Triplets, Validation, read_texts, with_terms_in_force

log = logging.getLogger(__name__)


def run(job: Job) -> None:
    """Train one network and write its run directory, in as many processes as the settings say.

    Raises `CcrError` for missing or inconsistent inputs and for a non-finite loss, `SystemExit` after a signal.
    """
    if processes.to_be_launched(job):
        processes.launch(job)
        return
    rounding = torch.get_float32_matmul_precision()  # tf32 is for this training, not for what the process does next
    with processes.joined(job.settings["processes"]) as device:
        try:
            _run(job, device)
        except torch.OutOfMemoryError as error:
            first, role = str(error).splitlines()[0], job.settings["role"]
            raise CcrError(
                f"{job.target}: the GPU's memory is full ({first}) Lower train.{role}.batch ({job.settings['batch']}), "
                f"raise train.{role}.slices ({job.settings['slices']}), set train.{role}.precision: bf16, or share the "
                "batch among GPUs (train.processes)."
            ) from error
        finally:
            torch.set_float32_matmul_precision(rounding)


def _run(job: Job, device: torch.device) -> None:
    start = time.perf_counter()
    planned, job = job.settings, with_terms_in_force(job)
    tracking = Tracking(job)
    settings = job.settings
    if device.type == "cuda":
        _repeatable()
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    network_settings = settings["network"]

    texts = read_texts(job)
    if "init_tokenizer" in job.inputs:
        tokenizer = load_tokenizer(job.inputs["init_tokenizer"])
    elif network_settings["text"]["encoder"] == "scratch":
        tokenizer = train_tokenizer(texts.training(), network_settings["text"]["vocabulary"])
    else:
        tokenizer = pretrained_tokenizer(network_settings["text"]["encoder"])
    words = "words" in reads_of(settings["objectives"])
    text = network_settings["text"]
    tokens = Tokens(tokenizer, texts.texts, text["max_tokens"], words, text["prompt"])
    store = open_features(job.inputs["features"]) if settings["role"] == "student" else None
    teacher = read_embeddings(job.inputs["teacher"]) if "teacher" in job.inputs else None
    triplets = Triplets(job, texts, store, teacher)
    validation = Validation(job, texts, store)
    log.info(
        "%s: %d triplets, %d texts of %.1f tokens, streams %s",
        job.target, len(triplets), len(tokens), tokens.length.mean(), "+".join(triplets.streams),
    )  # fmt: skip

    text_config = text_encoder(text).encoder_config(text, tokenizer.get_vocab_size())
    feature_dim = store.dim if store is not None else None
    network = DualEncoder(network_settings, text_config, feature_dim, pretrained=True)
    weights = sum(tensor.nbytes for tensor in network.own_state().values())
    room_for(job.target, weights, "the weights")
    if "init_model" in job.inputs:
        load_text_encoder(network, job.inputs["init_model"])
    trainer = Trainer(network.to(device), settings, of_texts(network.to(device), tokens), store)
    processes.draw_apart(settings["seed"])
    with Keeper(job, Checkpoint(job.key, device.type)) as keeper:
        with tracking:
            history = trainer.fit(triplets, validation, keeper, tracking.tell)
        embeddings = None
        if settings["role"] == "teacher":
            seen = (texts.table["split"] == "train") & (texts.table["role"] != "parallel")  # by students
            rows = np.flatnonzero(seen)
            embeddings = trainer.embed_captions(rows)
        if processes.rank():
            return
        _warn_of_collapse(job, history, validation)
        description = {"settings": planned, "terms": list(settings["objectives"])}
        description |= {"text_config": text_config, "feature_dim": feature_dim}
        if getattr(network.text, "brought", ()):
            description["frozen_weights"] = network.text.frozen_hash
        _write(job, trainer, history, tokenizer, description)
        if embeddings is not None:
            ids = texts.table["caption_id"].iloc[rows].tolist()
            write_embeddings(job.outputs["embeddings"], ids, embeddings.numpy(), key=job.key)
        seconds = time.perf_counter() - start
        facts = {"seconds": round(seconds, 1), "device": str(network.device), "torch": torch.__version__}
        facts |= {"precision": trainer.precision}
        write_json(provenance(job) | facts, job.outputs["provenance"])
        keeper.done()


def _repeatable() -> None:
    """Same seed, same GPU, same bits."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # no result depends on it


def _warn_of_collapse(job: Job, history: list[dict], validation: Validation) -> None:
    """Warn of collapse: a network that maps everything to one point trains on silently; its validation shows it."""
    best = max(row["val_sumr"] for row in history)
    chance = np.mean([chance_sumr(np.bincount(relevant)) for _, _, relevant in validation.groups])
    if best < 1.5 * chance:
        log.warning(
            "%s: validation SumR %.1f, chance is %.1f: the network has learnt nothing. Hardest negatives with "
            "LayerNorm heads end so when they train from scratch: take infonce, negatives: all or norm: batch; else "
            "look at the loss in history.csv, lr and warmup.",
            job.target, best, chance,
        )  # fmt: skip

    variance = history[-1].get("word_variance", 1.0)
    if variance < 0.01:
        log.warning(
            "%s: the variance of the words' unit states fell to %.4f: all words have become one, and their alignment "
            "says nothing. Lower the weight of word_alignment, raise its margin, or take the objective pointer.",
            job.target, variance,
        )  # fmt: skip


def _write(job: Job, trainer: Trainer, history: list[dict], tokenizer, description: dict) -> None:
    save_weights(trainer.best, job.outputs["model"])
    with atomic(job.outputs["tokenizer"]) as temporary:
        temporary.write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, sort_keys=True), "utf-8")
    with atomic(job.outputs["history"]) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False)
    write_json({"key": job.key, **description}, job.outputs["config"])
