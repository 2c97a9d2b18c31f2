"""Text files → tokenizer → memory-mapped tokens with document bounds. Imports neither torch nor transformers."""

from __future__ import annotations

from lossmith.data.blocks import Blocks, windows
from lossmith.data.config import DataConfig, Progress
from lossmith.data.corpora import CORPORA, Corpus
from lossmith.data.order import Permutation
from lossmith.data.pairs import Pairs, pair
from lossmith.data.sentences import Sentences, held_out_texts
from lossmith.data.store import Split, TokenStore, open_store
from lossmith.data.tokenizers import Tokenizer

__all__ = [
    "CORPORA",
    "Blocks",
    "Corpus",
    "DataConfig",
    "Pairs",
    "Permutation",
    "Progress",
    "Sentences",
    "Split",
    "TokenStore",
    "Tokenizer",
    "held_out_texts",
    "open_store",
    "pair",
    "windows",
]
