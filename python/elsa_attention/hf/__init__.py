"""ELSA inside Hugging Face transformers: attn_implementation="elsa", and plans on models.

Nothing here imports torch or transformers before it is called.
"""

from elsa_attention.hf.attachment import observed
from elsa_attention.hf.backend import register
from elsa_attention.hf.run import Run, applied, apply

__all__ = ["Run", "applied", "apply", "observed", "register"]
