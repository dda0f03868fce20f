"""Hugging Face folders with tiny random models, for tests of what real ones go through."""

from __future__ import annotations

from pathlib import Path

WORDS = "the cat dog sat on a mat and saw one two three four five six seven eight nine ten".split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_SIZES = {
    "vocab_size": len(SPECIAL) + len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}


def config(kind: str, **changes):
    """A tiny configuration of bert, bert-mlm, albert, gpt2, llama, mistral or mpnet."""
    import transformers as tf

    sizes = _SIZES | changes
    if kind in ("bert", "bert-mlm"):
        return tf.BertConfig(**sizes)
    if kind == "albert":
        return tf.AlbertConfig(**sizes, embedding_size=16)
    if kind == "llama":
        return tf.LlamaConfig(**sizes, num_key_value_heads=2)
    if kind == "mistral":
        return tf.MistralConfig(**({"sliding_window": 3} | sizes), num_key_value_heads=2)
    if kind == "mpnet":
        return tf.MPNetConfig(**sizes)
    assert kind == "gpt2"
    return tf.GPT2Config(
        vocab_size=sizes["vocab_size"], n_embd=32, n_layer=3, n_head=4, n_positions=32
    )


def model(kind: str, **changes):
    """A random model of that kind, the same each time."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    auto = tf.AutoModelForMaskedLM if kind == "bert-mlm" else tf.AutoModel
    made = auto.from_config(config(kind, **changes)).eval()
    # Initial weights are so small that attention is almost uniform; larger ones make it differ.
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 2:
                parameter.normal_(std=0.3)
    return made


def save_tokenizer(folder: Path, padding_side: str = "right", with_special: bool = True) -> None:
    """A word-level tokenizer with BERT's special tokens, as a Hugging Face folder has it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "[UNK]"}
    if with_special:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        names |= {"pad_token": "[PAD]", "mask_token": "[MASK]"}
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, padding_side=padding_side, model_max_length=32, **names
    )
    tokenizer.save_pretrained(folder)


def save(folder: Path, kind: str, **changes) -> Path:
    """A complete model folder."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # stderr belongs to what is tested
    model(kind, **changes).save_pretrained(folder)
    logging.enable_progress_bar()
    decoder = kind in ("gpt2", "llama", "mistral")
    save_tokenizer(folder, "left" if decoder else "right", with_special=not decoder)
    return folder
