"""Real models to run ELSA on: two that registry packages ship, and any local Hugging Face folder.

What it is not: the attention backend (``elsa_attention.hf``). Loading leaves a model exactly as
``transformers`` builds it, in float32 and eval mode. torch and transformers are imported only when
a model is loaded.
"""

from elsa_attention.models.loader import BUNDLED_MODELS, LoadedModel, load
from elsa_attention.models.tokenizers import SmilesTokenizer, Tokenizer

__all__ = ["BUNDLED_MODELS", "LoadedModel", "SmilesTokenizer", "Tokenizer", "load"]
