"""TRL's SFTTrainer: trainer_state.json and printed dicts with its own columns."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from golden_common import Seen, captured, text_bytes
from with_hf_trainer import NAMES, PACKAGES, tiny_model


def byte_tokenizer() -> Any:
    """Return a tokenizer whose vocabulary is the bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: i for i, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=alphabet[0], pad_token=alphabet[0])


def main(root: Path) -> None:
    """Fine-tune on lines of text."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    out = root / "trl"
    out.mkdir(parents=True, exist_ok=True)
    seen = Seen()

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            seen.add_row(state.global_step, {name: logs[name] for name in NAMES if name in logs})

    lines = [line for line in text_bytes().decode().splitlines() if len(line) > 40][:700]
    data = Dataset.from_dict({"text": lines}).train_test_split(100, seed=0)
    with tempfile.TemporaryDirectory() as work:
        config = SFTConfig(
            output_dir=work,
            max_steps=40,
            max_length=32,
            per_device_train_batch_size=8,
            logging_steps=4,
            eval_strategy="steps",
            eval_steps=20,
            learning_rate=5e-3,
            report_to=[],
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            tiny_model(),
            config,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=byte_tokenizer(),
        )
        trainer.add_callback(Watch())
        with captured(out / "stdout.txt"):
            trainer.train()
        trainer.state.save_to_json(str(out / "trainer_state.json"))
    seen.write(
        out, packages=("trl", *PACKAGES), file="trainer_state.json", also="stdout.txt: the same, no steps, 4 digits"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
