"""fused_loss on real (tiny) models of transformers: the same losses, gradients and weights as without it."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
import transformers as hf
from tiny_hf import MODELS, SMALL, Products, V, batch, bert, llama, same, step
from torch import Tensor, nn

from lossmith.errors import InputError, RunError
from lossmith.integrations.hf import fused_loss


@pytest.mark.parametrize("name", MODELS)
def test_loss_and_gradients_are_the_models_own(name: str) -> None:
    model, inputs = MODELS[name](), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused:
        assert fused.loss_path == "none yet"
        same(step(model, **inputs), own)
        assert (fused.loss_path, fused.reason) == ("hidden states", "")
    same(step(model, **inputs), own, rtol=0)


@pytest.mark.parametrize("items", [7, torch.tensor(7)])
def test_num_items_in_batch(items: Any) -> None:
    model, inputs = llama(), batch() | {"num_items_in_batch": items}
    own = step(model, **inputs)
    with fused_loss(model):
        same(step(model, **inputs), own)


def test_no_operation_returns_logits() -> None:
    model, inputs = llama(), batch()
    with Products() as plain:
        step(model, **inputs)
    with fused_loss(model), Products() as ours:
        step(model, **inputs)
    assert plain.count == 1
    assert ours.count == 0


def test_the_gradient_of_a_loss_times_two_plus_another() -> None:
    model, inputs = llama(), batch()

    def gradient() -> Tensor:
        outputs = model(**inputs, output_hidden_states=True)
        loss = 2 * outputs.loss + outputs.hidden_states[-1].square().mean()
        return torch.autograd.grad(loss, model.lm_head.weight)[0]

    own = gradient()
    with fused_loss(model):
        torch.testing.assert_close(gradient(), own, rtol=1e-4, atol=1e-7)


def test_labels_by_position_and_outputs_as_a_tuple() -> None:
    model, inputs = llama(), batch()
    names = list(inspect.signature(model.forward).parameters)
    positional = [inputs.get(name) for name in names[: names.index("labels") + 1]]
    own = model(*positional, return_dict=False)
    with fused_loss(model) as fused:
        assert list(inspect.signature(model.forward).parameters) == names
        ours = model(*positional, return_dict=False)
        assert fused.loss_path == "hidden states"
    torch.testing.assert_close(ours[0], own[0])
    assert ours[1] is None


def test_training_returns_no_logits_unless_asked() -> None:
    model, inputs = llama(), batch()
    own = model(**inputs)
    with fused_loss(model):
        assert model(**inputs).logits is None
    with fused_loss(model, return_logits=True) as fused:
        outputs = model(**inputs)
        same({"logits": outputs.logits + 0}, {"logits": own.logits + 0})
        grads = [torch.autograd.grad(o.logits.square().sum(), model.lm_head.weight)[0] for o in (outputs, own)]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-6)
        assert fused.loss_path == "hidden states"  # reading them later changes nothing about the loss


def test_evaluation_has_logits_when_they_are_read() -> None:
    model, inputs = llama().eval(), batch()
    with torch.no_grad():
        own = model(**inputs)
        with fused_loss(model), Products() as seen:
            ours = model(**inputs)
            assert seen.count == 0
        torch.testing.assert_close(ours.loss, own.loss)
        torch.testing.assert_close(ours.logits.detach().float().cpu(), own.logits)
        assert ours.logits.argmax(-1).equal(own.logits.argmax(-1))
    with torch.inference_mode(), fused_loss(model):
        torch.testing.assert_close(model(**inputs).logits + 0, own.logits)


def test_logits_read_after_the_weights_have_changed_are_refused() -> None:
    model = llama()
    with fused_loss(model), torch.no_grad():
        outputs = model(**batch())
        model.lm_head.weight.mul_(2)
        with pytest.raises(RunError, match=r"before optimizer.step"):
            outputs.logits.argmax(-1)


def test_calls_without_labels_are_as_before() -> None:
    model, ids = llama().eval(), batch()["input_ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    own, logits = model.generate(ids, **options), model(input_ids=ids).logits
    with fused_loss(model) as fused:
        assert model.generate(ids, **options).equal(own)
        assert model(input_ids=ids).logits.equal(logits)
        assert type(model.train()(input_ids=ids).logits) is Tensor
        assert fused.loss_path == "none yet"


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Distance of loss and all gradients together, as a share of their size."""
    apart = sum(float((found[k] - x).square().sum()) for k, x in exact.items())
    return (apart / sum(float(x.square().sum()) for x in exact.values())) ** 0.5


@pytest.mark.parametrize("build", [llama, bert])
def test_bfloat16_models_and_autocast(build: Any) -> None:
    inputs, exact = batch(), step(build().double(), **batch())
    for model, precision in (
        (build().bfloat16(), torch.autocast("cpu", enabled=False)),
        (build(), torch.autocast("cpu", torch.bfloat16)),
    ):
        with precision:
            own = step(model, **inputs)
            with fused_loss(model) as fused:
                ours = step(model, **inputs)
        assert fused.loss_path == "hidden states"
        assert all(ours[k].dtype == g.dtype for k, g in own.items() if k != "loss")
        assert error(ours, exact) <= 1.2 * error(own, exact) + 1e-3


def test_gradient_checkpointing() -> None:
    model, inputs = llama(attention_dropout=0.2), batch()
    own = step(model, **inputs)
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    with fused_loss(model) as fused:
        same(step(model, **inputs), own)
        assert fused.loss_path == "hidden states"


def test_all_labels_ignored() -> None:
    model = llama()
    ids = batch()["input_ids"]
    with fused_loss(model):
        step_ = step(model, input_ids=ids, labels=torch.full_like(ids, -100), num_items_in_batch=1)
    assert step_["loss"] == 0
    assert all(not x.any() for x in step_.values())


def test_models_that_change_their_logits_keep_their_loss_and_say_why() -> None:
    class Masked(hf.LlamaForCausalLM):  # as chameleon does to what must not be said
        def forward(self, input_ids: Tensor, labels: Tensor | None = None, **more: Any) -> Any:
            logits = self.lm_head(self.model(input_ids).last_hidden_state)
            logits[..., 5] = -1e4
            loss = None if labels is None else self.loss_function(logits, labels, V)
            return hf.modeling_outputs.CausalLMOutput(loss=loss, logits=logits)

    torch.manual_seed(0)
    model, inputs = Masked(hf.LlamaConfig(**SMALL)), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused:
        with pytest.warns(UserWarning, match="Masked computes its loss from logits: setitem") as seen:
            same(step(model, **inputs), own)
        same(step(model, **inputs), own)  # warned once
        assert seen[0].filename == step.__code__.co_filename
        assert (fused.loss_path, fused.reason) == ("logits", "setitem of its logits")


def test_layers_that_are_no_product_keep_their_loss() -> None:
    class Cubic(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) ** 3

    model, inputs = llama(), batch()
    model.set_output_embeddings(Cubic(16, V, bias=False))
    own = step(model, **inputs)
    with fused_loss(model), pytest.warns(UserWarning, match="Cubic, is not called, or not a plain linear one"):
        same(step(model, **inputs), own)


def test_what_others_have_put_on_the_layer_is_not_left_out() -> None:
    model, inputs = llama(), batch()
    inner = model.lm_head.forward
    model.lm_head.forward = lambda x: inner(x) * 3  # before
    own = step(model, **inputs)
    with fused_loss(model), pytest.warns(UserWarning, match="not a plain linear one"):
        same(step(model, **inputs), own)
    del model.lm_head.forward
    handle = model.lm_head.register_forward_hook(lambda layer, args, out: out * 3)
    with fused_loss(model) as fused:
        same(step(model, **inputs), own)
        assert fused.loss_path == "hidden states"
    handle.remove()


def test_an_error_inside_the_model_leaves_it_usable() -> None:
    model, inputs = llama(), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused:
        with pytest.raises(IndexError):
            model(input_ids=torch.full((1, 3), V), labels=torch.zeros(1, 3).long())
        with pytest.raises(IndexError, match="out of bounds"):
            model(input_ids=inputs["input_ids"], labels=torch.full_like(inputs["labels"], V))
        assert model(input_ids=inputs["input_ids"]).logits.shape == (2, 20, V)
        same(step(model, **inputs), own)
        assert fused.loss_path == "hidden states"


def test_undo_leaves_no_trace() -> None:
    model = llama()
    with pytest.raises(ZeroDivisionError), fused_loss(model):
        raise ZeroDivisionError
    assert "forward" not in vars(model)
    assert "forward" not in vars(model.lm_head)
    fused = fused_loss(model)
    with pytest.raises(InputError, match="already on for this model"):
        fused_loss(model)
    fused.undo()
    fused.undo()
    with fused_loss(model):
        assert model(**batch()).logits is None


def test_undo_under_what_others_have_wrapped_around() -> None:
    model, inputs = llama(), batch()
    own, calls = step(model, **inputs), []
    fused = fused_loss(model)
    ours = model.forward

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return ours(*args, **kwargs)

    model.forward = MethodType(wrapped, model)
    same(step(model, **inputs), own)
    assert fused.loss_path == "hidden states"
    fused.undo()
    same(step(model, **inputs), own, rtol=0)
    with fused_loss(model) as again:
        same(step(model, **inputs), own)
        assert again.loss_path == "hidden states"
    same(step(model, **inputs), own, rtol=0)
    assert len(calls) == 4


def test_copies_are_without_it() -> None:
    model, inputs = llama(), batch()
    with fused_loss(model) as fused:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
        with torch.no_grad():
            model.lm_head.weight.mul_(2)
        step(model, **inputs)
        for other in copies:
            own = step(llama(), **inputs)
            same(step(other, **inputs), own, rtol=0)
            assert other(**inputs).logits is not None
            with fused_loss(other):
                same(step(other, **inputs), own)
        assert fused.loss_path == "hidden states"


def test_models_without_an_output_layer_are_refused() -> None:
    with pytest.raises(InputError, match=r"needs a transformers model.*got Linear"):
        fused_loss(nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"got DataParallel. Pass the model inside it, .module"):
        fused_loss(nn.DataParallel(llama()))


@pytest.fixture
def compiling() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
    torch._dynamo.reset()


def test_compiling_the_body_keeps_the_fused_loss(compiling: None) -> None:
    model, inputs = llama(), batch()
    own = step(model, **inputs)
    model.base_model.compile(backend="aot_eager")
    with fused_loss(model) as fused:
        same(step(model, **inputs), own)
        assert fused.loss_path == "hidden states"


def test_compiling_the_whole_model_keeps_its_own_loss_and_says_so(compiling: None) -> None:
    model, inputs = llama(), batch()
    own = step(model, **inputs)
    with fused_loss(model) as fused:
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
        loss = compiled(**inputs).loss
        torch.testing.assert_close(loss, own["loss"])
        assert fused.loss_path == "logits"
        assert "torch.compile of the whole model" in fused.reason
    compiled = torch.compile(model, backend="aot_eager")
    with fused_loss(compiled), pytest.warns(UserWarning, match="logits: torch.compile of the whole model"):
        torch.testing.assert_close(compiled(**inputs).loss, own["loss"])


def test_saved_models_are_ordinary(tmp_path: Path) -> None:
    model, inputs = llama(), batch()
    own = step(model, **inputs)
    with fused_loss(model):
        model.save_pretrained(tmp_path)
    same(step(hf.AutoModelForCausalLM.from_pretrained(tmp_path), **inputs), own)
